"""`reproduce` as a user runs it on the bundled model: a real kill, a real restart, and the figures in the docs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explorer.core.keys import MatrixKey
from explorer.experiments.reproduce.suites import find_suite
from explorer.models import Model, load
from explorer.spectra.cache import SvdCache
from tests.commands import report, run
from tests.unit.reproduce.recipes import write

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results.md"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As on a machine without network, with folders of its own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENPRUNE_", "PYTHON"))}
    folders = tmp_path_factory.mktemp("reproduce")
    own = {"EIGENPRUNE_CACHE": str(folders / "cache"), "EIGENPRUNE_WORKSPACE": str(folders / "workspace")}
    return {**outer, **own, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "explorer", "reproduce", *map(str, words)]


@pytest.mark.usefixtures("isolated_folders")
def test_a_killed_suite_goes_on_where_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    suite, out = tmp_path / "suite", tmp_path / "out"
    for name in ("a-first", "b-second", "c-third"):
        write(suite, name=name)
    kept = out / "a-first.json"
    with subprocess.Popen(command(suite, "--out", out), cwd=ROOT, env=environment, stdout=-3, stderr=-3) as process:
        limit = time.monotonic() + 120
        while not kept.is_file() and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = kept.read_bytes()
    found = {one["recipe"]: one["status"] for one in report("reproduce", suite, "--out", out)["cells"]}
    assert found["a-first"] == "kept"
    assert found["c-third"] == "measured"
    assert set(found.values()) <= {"kept", "measured"}
    assert kept.read_bytes() == before


@pytest.mark.usefixtures("isolated_folders")
def test_the_page_of_results_shows_what_runs_here(tmp_path: Path) -> None:
    """Strategy, number removed, accuracies, precision and recall; losses may differ in the last digit elsewhere."""
    result = run("reproduce", "bundled", "--out", tmp_path, "--strategy", "paper", "--markdown")
    assert result.exit_code == 0, result.stderr
    shown = {row["strategy"]: row for row in table(RESULTS.read_text(encoding="utf-8"))}
    found = table(result.stdout)
    assert [row["strategy"] for row in found] == ["paper, Q,K", "paper, all"]
    for row in found:
        assert {name: row[name] for name in shown[row["strategy"]] if not name.startswith("loss")} == {
            name: text for name, text in shown[row["strategy"]].items() if not name.startswith("loss")
        }


def test_the_page_of_results_has_a_row_for_every_recipe_of_the_bundled_suite() -> None:
    wanted = [f"{one.strategy.name}, {one.strategy.kinds}" for one in find_suite("bundled").recipes]
    assert [row["strategy"] for row in table(RESULTS.read_text(encoding="utf-8"))] == wanted


def test_the_page_shows_the_results_of_smollm2_that_come_along() -> None:
    shown = run("reproduce", "smollm2", "--show", "--out", ROOT / "assets" / "results" / "smollm2", "--markdown")
    assert shown.exit_code == 0, shown.stderr
    rows = [line for line in shown.stdout.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(find_suite("smollm2").recipes)
    assert "\n".join(rows) in RESULTS.read_text(encoding="utf-8")


def table(text: str) -> list[dict[str, str]]:
    """The rows of the table of the bundled suite in a Markdown text."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if re.match(r"\| (model \| task \| )?strategy \| removed ", line))
    end = next((n for n in range(start, len(lines)) if not lines[n].startswith("|")), len(lines))
    columns, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start:end])
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_unpublished_models_are_listed_with_how_to_get_them(environment: dict[str, str], tmp_path: Path) -> None:
    words = command("paper", "--out", tmp_path, "--task", "int-mult")
    words += ["--local", f"openai-community/gpt2={ROOT / 'assets' / 'bundled'}"]
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 3, result.stderr
    assert (
        "`hf download microsoft/phi-2 --revision ef382358ec9e382308935a992d908de099b64c23` fetches it" in result.stdout
    )
    assert "4 of 6 cells are in" in result.stdout
    assert re.search(r"GPT-2, fine-tuned was taken from .*bundled", result.stdout)


def test_the_planted_values_have_the_same_places_in_the_folded_basis(bundled: Model) -> None:
    """So that precision and recall mean the same as released, where the weights are folded."""
    svds = SvdCache(None)
    raw, folded = bundled.view(), load("bundled", basis="folded", dtype="float32", device="cpu").view()
    truth = find_suite("bundled").recipes[0].truth
    assert truth is not None
    for one in truth.values:
        key = MatrixKey.parse(one.matrix)
        written = svds.get(raw, key).vh[one.index]  # folding changes what a matrix reads, not what it writes
        overlaps = (svds.get(folded, key).vh @ written).abs()
        assert int(overlaps.argmax()) == one.index
        assert float(overlaps[one.index]) > 0.99
