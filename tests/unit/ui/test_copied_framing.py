"""Copied commands and Python ask in the view's framing: BOS, chat, system message, and shots as turns."""

from __future__ import annotations

import json
import runpy
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.actions import ModelChoice, Request
from explorer.masks.activations import read_prompt
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.tasks import Example, Framing, load_task
from explorer.ui.bench import inside
from explorer.ui.session import requests
from tests.commands import run
from tests.unit.test_cli_framing import chatting, file
from tests.unit.ui.test_copied import bench_of

__all__ = ["chatting", "file"]
FRAMINGS = [(Framing("never"), 0), (Framing(chat=True), 2), (Framing("always", chat=True, system="w19 w18"), 1)]


def told(request: Request, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What the request's command prints, as its Python does."""
    (folder / "copied.py").write_text(request.as_python(), encoding="utf-8")
    capsys.readouterr()
    runpy.run_path(str(folder / "copied.py"))
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert json.loads(run(*shlex.split(request.as_command("--json"))[1:]).stdout) == printed
    return printed


@pytest.mark.slow
@pytest.mark.parametrize(("framing", "shots"), FRAMINGS, ids=["never", "chat", "all"])
def test_they_give_the_views_numbers(
    chatting: Path, file: Path, framing: Framing, shots: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = load_task(str(file), shots=shots, framing=framing)
    view = load(str(chatting)).view()
    bench = replace(bench_of(view.model, task), split="test")
    given = replace(requests.by_name(bench), model=ModelChoice(str(chatting)))
    named = replace(given, task=replace(given.task, task=str(file)))
    expected = evaluate(view, task, "test").mean_loss.value
    found = told(requests.evaluate(named, None), tmp_path, capsys)
    assert found["task_digest"] == task.digest
    assert found["baseline"]["loss"] == pytest.approx(expected, abs=1e-6)

    example = task.test[0]
    reading = read_prompt(view, example, task.around)
    found = told(inside.request(given, example, (0, 1), answer=example.answer), tmp_path, capsys)
    assert [one["id"] for one in found["tokens"]] == list(reading.ids)
    shown = [(one["text"], one["probability"]) for one in found["next"]["baseline"]]
    assert shown == [(view.model.tokenizer.decode([one]), p) for one, p in reading.top(inside.TOP)]


def test_the_usual_framing_is_not_said(bundled: Model) -> None:
    task = load_task("int-mult")
    given = requests.by_name(bench_of(bundled, task))
    prompt = Example(task.test[0].prompt, "")
    for request in (requests.evaluate(given, None), inside.request(given, prompt, (0, 1), answer=None)):
        assert "--bos" not in request.as_command()
        assert "raming" not in request.as_python()
