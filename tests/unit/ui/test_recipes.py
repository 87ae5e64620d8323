"""Commands and Python of a view: they parse, and say everything that the view depends on. They run in tests/pages."""

from __future__ import annotations

import ast
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from explorer.config import settings
from explorer.tasks import load_task
from explorer.ui.recipes import Recipe, is_file_task

MASK = Path("/my masks/it's.mask.json")
PLAIN = Recipe("bundled", "raw", load_task("int-mult"), "validation", None, MASK)


def words(text: str | None) -> list[str]:
    assert text is not None
    return shlex.split(text)


def test_the_usual_view() -> None:
    start = ["eigenprune", "eval", "--model", "bundled", "--task", "int-mult"]
    assert words(PLAIN.evaluate_command()) == [*start, "--mask", str(MASK), "--split", "validation", "--json"]
    damage = words(PLAIN.damage_command())
    assert damage[:3] == ["eigenprune", "mask", "damage"]
    assert str(MASK) in damage


def test_everything_that_is_not_usual_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_DTYPE", "float64")
    settings.cache_clear()
    task = load_task("int-mult", 3, shots=2, template="{i}\n* {j} =")
    recipe = replace(PLAIN, model="a b", basis="folded", task=task, limit=16, data=Path("/d d"))
    command = " ".join(words(recipe.evaluate_command()))
    for part in (
        "--model a b",
        "--basis folded",
        "--dtype float64",
        "--limit 16",
        "--seed 3",
        "--shots 2",
        "--data /d d",
    ):
        assert part in command
    assert "--template {i}\\n* {j} =" in command
    assert recipe.damage_command() is None  # that command takes no template
    code = recipe.evaluate_python()
    for part in (
        "load('a b', basis='folded', dtype='float64')",
        "seed=3, shots=2, template='{i}\\n* {j} ='",
        "limit=16",
    ):
        assert part in code


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("limit", [None, 32])
def test_the_python_is_python(mask: Path | None, limit: int | None) -> None:
    recipe = replace(PLAIN, mask=mask, limit=limit)
    for code in (recipe.evaluate_python(), recipe.damage_python()):
        if code is not None:
            ast.parse(code)
    assert (recipe.damage_python() is None) == (mask is None)
    assert ("--mask" in recipe.evaluate_command()) == (mask is not None)


def test_a_task_from_a_file_is_known() -> None:
    assert not is_file_task(PLAIN.task)
    assert is_file_task(replace(PLAIN.task, name="own.jsonl"))
