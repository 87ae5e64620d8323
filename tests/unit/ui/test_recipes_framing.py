"""Copied commands and Python ask in the view's framing: BOS, chat, system message, and shots as turns."""

from __future__ import annotations

import json
import runpy
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from explorer.masks.activations import read_prompt
from explorer.measure.evaluate import evaluate
from explorer.models import load
from explorer.tasks import Framing, load_task
from explorer.ui.shell import recipes
from explorer.ui.shell.recipes import Recipe, Setting
from tests.commands import run
from tests.unit.test_cli_framing import chatting, file

__all__ = ["chatting", "file"]
FRAMINGS = [(Framing("never"), 0), (Framing(chat=True), 2), (Framing("always", chat=True, system="w19 w18"), 1)]


def printed(recipe: Recipe, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the recipe's Python prints."""
    (folder / "recipe.py").write_text(recipe.python, encoding="utf-8")
    capsys.readouterr()
    runpy.run_path(str(folder / "recipe.py"))
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("framing", "shots"), FRAMINGS, ids=["never", "chat", "all"])
def test_they_give_the_views_numbers(
    chatting: Path, file: Path, framing: Framing, shots: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = load_task(str(file), shots=shots, framing=framing)
    view = load(str(chatting)).view()
    given = Setting(str(chatting), "raw", task, "test", None, None, text=False)
    named = replace(given, task=replace(task, name=str(file)))
    expected = evaluate(view, task, "test").mean_loss.value
    measured = recipes.evaluate(named)
    assert f"loss {expected:.3f} nats" in printed(measured, tmp_path, capsys)
    found = json.loads(run(*shlex.split(measured.command or "")[1:]).stdout)
    assert found["task_digest"] == task.digest
    assert found["baseline"]["loss"] == pytest.approx(expected, abs=1e-6)

    example = task.test[0]
    reading = read_prompt(view, example, task.around)
    looked = recipes.activations(given, example, (0, 1), 3, example.answer)
    assert f"unpruned {[(view.model.tokenizer.decode([one]), p) for one, p in reading.top(3)]}" in printed(
        looked, tmp_path, capsys
    )
    found = json.loads(run(*shlex.split(looked.command or "")[1:]).stdout)
    assert [one["id"] for one in found["tokens"]] == list(reading.ids)
    assert [one["probability"] for one in found["next"]["baseline"]] == [p for _, p in reading.top(3)]


def test_the_usual_framing_is_not_said() -> None:
    task = load_task("int-mult")
    given = Setting("bundled", "raw", task, "test", None, None, text=False)
    for recipe in (recipes.evaluate(given), recipes.activations(given, task.test[0].prompt, (0, 1), 3)):
        assert "--bos" not in (recipe.command or "")
        assert "raming" not in recipe.python
