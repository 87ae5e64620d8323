"""Every change that CONTRIBUTING shows can be made, does what it says, and passes the checks that it will meet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import checkout

pytestmark = pytest.mark.timeout(700)  # each begins with another process that loads everything

TEXT = (checkout.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### (\w+)\n\n(?:(?!^#).)*?^```diff\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHANGES = {name.lower(): diff for name, diff in SECTION.findall(TEXT)}
MOST_LINES = 40

# What is asked of the changed code, in a process of its own.
USES = {
    "scorer": """
import torch
import explorer as ep
from explorer.actions.choices import Scorer
from explorer.models.matrices import read

model, task = ep.load("bundled"), ep.load_task("int-mult")
scores, view = model.score(task, kinds="K", scorer="share", limit=8), model.view()
assert scores.unit == "share of s_0"
for key, matrix in scores.matrices.items():
    s = torch.linalg.svdvals(read(view, key).double())
    torch.testing.assert_close(matrix.score.double(), s / s.max(), rtol=1e-4, atol=1e-6)
assert len(scores.matrices) > 1
assert ", share, " in Scorer.__metadata__[0].help
""",
    "strategy": """
import explorer as ep
from explorer.search import SUMMARIES

model, task = ep.load("bundled"), ep.load_task("int-mult")
report = model.search(task, kinds="QK", strategy="halving", max_removed=10, limit=64, controls=0, test_limit=20)
assert [point.removed for point in report.found.curve] == [0, 10, 5, 2, 1]
assert report.test.accuracy > report.baseline.accuracy + 0.5
assert {(one.matrix, one.index) for one in report.mask.removed} & {("L0.Q.H3", 0), ("L0.K.H3", 0)}
assert SUMMARIES["halving"].startswith("One shot, from above")
""",
    "task": """
import explorer as ep

task = ep.load_task("doubles", shots=2, template="Twice {i} is")
examples = [*task.train, *task.validation, *task.test]
asked = {one.prompt.splitlines()[-1].split("Twice ")[-1].removesuffix(" is"): one.answer for one in examples}
assert asked == {str(i): f" {2 * i}" for i in range(100)}
assert ep.load_task("doubles").train[0].prompt.endswith(" =")
assert ep.load("bundled").evaluate(ep.load_task("doubles"), split="test").n == len(task.test)
""",
    "page": """
from tests.pages import app as driver

driver.SECONDS = 500
app = driver.open_page("Examples")
assert not driver.sentences(app)
assert [one.value for one in app.title] == ["Examples"]
(table,) = app.dataframe
assert len(table.value) == 280
assert table.value["answer"][0] == f" {eval(table.value['prompt'][0].removesuffix(' =').replace('x', '*'))}"
""",
    "export": """
import csv
import io
import explorer as ep
from explorer.export import EXPORTS
from tests.pages import app as driver

model, task = ep.load("bundled"), ep.load_task("int-mult")
mask = model.prune(task, model.score(task, kinds="K", limit=8), 3)
header, *rows = csv.reader(io.StringIO(EXPORTS["csv"].encode(mask).decode()))
assert header == ["matrix", "index", "sigma", "c"]
removed = [(one.matrix, one.index, one.sigma, one.c) for one in mask.removed]
assert [(matrix, int(index), float(sigma), float(c)) for matrix, index, sigma, c in rows] == removed
assert len(removed) == 3
driver.SECONDS = 500
labels = [button.label for button in driver.open_page().get("download_button")]
assert labels == ["Download mask", "Download table"], labels
""",
}
NAMES = "tests/unit/test_loaded.py::test_closed_choices_are_those_of_the_tables"
DOCS = "tests/unit/test_docs.py"
# The fast tests that hold tables, names and lists to each other, beside those of the documentation.
HELD_BY = (
    NAMES, "tests/unit/attribution/test_table.py", "tests/unit/export", "tests/unit/reproduce/test_recipe.py",
    "tests/unit/search/test_ensemble.py", "tests/unit/tasks/test_tasks.py", "tests/unit/tasks/test_template.py",
    "tests/unit/test_measuring.py", "tests/unit/ui/test_rooms.py",
)  # fmt: skip


def changed(folder: Path, *changes: str) -> Path:
    """A copy of the checkout with some changes made."""
    copy = checkout.copied(folder / "checkout")
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True, timeout=60)  # apply looks no further up
    for change in changes:
        run(copy, "git", "apply", "--verbose", "-", given=CHANGES[change])
    return copy


def run(folder: Path, *command: str, given: str = "") -> str:
    """Run in a copy, with its own package and folders; fails with what the command says."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENPRUNE_", "PYTHON"))}
    own = {f"EIGENPRUNE_{name}": str(folder.parent / name.lower()) for name in ("CACHE", "WORKSPACE")}
    environment = {**outer, **own, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_change_is_shown_and_short() -> None:
    assert sorted(CHANGES) == sorted(USES)
    assert TEXT.count("```diff") == len(CHANGES)
    assert {name: len(diff.splitlines()) for name, diff in CHANGES.items() if len(diff.splitlines()) > MOST_LINES} == {}


@pytest.mark.parametrize("change", sorted(USES))
def test_a_change_does_what_it_says(change: str, tmp_path: Path) -> None:
    copy = changed(tmp_path, change)
    where = run(copy, sys.executable, "-c", "import explorer; print(explorer.__file__)")
    assert Path(where.strip()) == copy / "explorer" / "__init__.py"
    run(copy, sys.executable, "-c", USES[change])


def test_all_changes_pass_the_checks(tmp_path: Path) -> None:
    copy, tools = changed(tmp_path, *CHANGES), Path(sys.executable).parent
    files = sorted(
        {file for diff in CHANGES.values() for file in re.findall(r"^\+\+\+ b/(\S+\.py)$", diff, re.MULTILINE)}
    )
    assert len(files) > len(CHANGES)
    for words in (("ruff", "check", *files), ("ruff", "format", "--check", *files), ("lint-imports", "--no-logo")):
        run(copy, str(tools / words[0]), *words[1:])
    run(copy, sys.executable, "-m", "scripts.docs")
    run(copy, sys.executable, "-m", "pytest", "-q", "-m", "not slow", DOCS, *HELD_BY)
