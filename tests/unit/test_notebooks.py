"""Requests as notebooks: valid files whose code, run by Jupyter's own client, prints what they were kept to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from explorer.actions import Evaluate, ModelChoice, Score, TaskChoice
from explorer.actions.notebook import NotebookStep, notebook, printed
from explorer.core.errors import SettingsError
from explorer.masks.mask import load_mask
from tests import commands


def steps(mask: Path | None = None, **options: Any) -> list[NotebookStep]:
    about: Any = {"model": ModelChoice("bundled"), "task": TaskChoice(task="int-mult"), "limit": 4, **options}
    return [
        NotebookStep("Scores", Score(**about, kinds="Q", scorer="magnitude")),
        NotebookStep("Step 1: remove *one* <b>", Evaluate(**about, mask=mask)),
    ]


def test_a_notebook_is_valid_the_same_each_time_and_holds_no_markup_of_others() -> None:
    text = notebook("a_b", ["about"], steps(), {"m.json": "{'\\n"})
    assert text == notebook("a_b", ["about"], steps(), {"m.json": "{'\\n"})
    found = nbformat.reads(text, as_version=4)
    nbformat.validate(found)
    assert "Step 1: remove \\*one\\* \\<b\\>" in found.cells[-2].source
    assert found.cells[-1].source == steps()[1].request.as_python()
    assert found.cells[-1].outputs == []


def test_the_first_cell_writes_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text("mine")
    files = {"mine.json": "other", "new.json": 'a "quote" \'\n and \u2028'}
    code = next(
        cell for cell in nbformat.reads(notebook("t", [], [], files), as_version=4).cells if cell.cell_type == "code"
    )
    exec(compile(code.source, "cell", "exec"), {})  # noqa: S102  # what a notebook does with it
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert (tmp_path / "new.json").read_text(encoding="utf-8") == files["new.json"]


def test_without_nbformat_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.actions.notebook.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'eigenprune-explorer\[notebook\]'"):
        notebook("t", [], steps(), {})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jupyter_runs_it_elsewhere_and_prints_the_same(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    path = tmp_path / "made.json"
    commands.run("prune", "--model", "bundled", "--task", "int-mult", "--kinds", "Q", "--count", 1, "--out", path)
    made = [NotebookStep(one.heading, one.request, printed(one.request)) for one in steps(path)]
    own = [
        NotebookStep(one.heading, two.request, one.printed)
        for one, two in zip(made, steps(Path("m.json")), strict=True)
    ]
    text = notebook("bundled", ["about"], own, {"m.json": load_mask(path).to_json()})
    kept = nbformat.reads(text, as_version=4)
    again = nbformat.reads(text, as_version=4)
    (tmp_path / "elsewhere").mkdir()
    NotebookClient(again, timeout=120, resources={"metadata": {"path": str(tmp_path / "elsewhere")}}).execute()
    for before, after in zip(kept.cells, again.cells, strict=True):
        if before.cell_type == "code":
            assert "".join(one.text for one in after.outputs) == "".join(one.text for one in before.outputs)
    assert (tmp_path / "elsewhere" / "m.json").is_file()
