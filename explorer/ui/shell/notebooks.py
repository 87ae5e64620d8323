"""The session's steps as a notebook: scores, the mask after each step beside the unpruned model, and a control."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from explorer.actions import Request
from explorer.actions.notebook import NotebookStep, check_notebooks, notebook, printed
from explorer.actions.request import Tools
from explorer.core.errors import SettingsError
from explorer.core.files import safe_name
from explorer.core.progress import Progress, track
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.search.provenance import versions
from explorer.ui.components.words import literal
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests, session, state
from explorer.ui.session.history import Step
from explorer.ui.shell import tasks_at_hand

MOST = 8  # masks, those of the last steps
CONTROLS = 5


def draw(bench: Bench, own: Setting) -> None:
    """A button that runs the session's steps, and then the notebook as a download.

    Args:
        bench: what the page works on.
        own: how the requests are called on this machine.
    """
    try:
        check_notebooks()
    except SettingsError as error:
        st.caption(literal(str(error)))
        return
    steps = taken_steps(bench)
    key = ("notebook", *(request for _, request in asked_of(requests.by_contents(bench), steps)))
    st.caption("Scores, the mask after each of the last steps, and random controls: code with what it prints.")
    st.button(
        "Make notebook", icon=":material/play_arrow:", key="notebook-go", on_click=state.put, args=(_Wanted(key),)
    )
    if state.find(_Wanted) != _Wanted(key):
        return

    def work(view: View, progress: Progress) -> list[str]:
        tools = Tools(view=view, task=bench.task)
        return [printed(request, tools) for _, request in track(asked_of(own, steps), progress)]

    said = on_view(bench, key, work, label="Making a notebook")
    if said is not None:
        text = _text(bench, own, steps, said=said)
        st.download_button(
            "Download notebook", data=text, file_name=f"{safe_name(bench.model.source.name, 'session')}.ipynb",
            mime="application/x-ipynb+json", icon=":material/download:", on_click="ignore", key="notebook-file",
        )  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """The notebook that was last asked for."""

    key: Key


def taken_steps(bench: Bench) -> tuple[Step, ...]:
    """The last steps that led to the current mask."""
    history = session.history(bench.model)
    taken = history.steps[: history.position + 1]
    last = {step.mask.digest: step for step in taken if len(step.mask)}
    return tuple(last.values())[-MOST:]


def asked_of(setting: Setting, steps: tuple[Step, ...]) -> list[tuple[str, Request]]:
    """Headings and requests: scores, each mask, the last one with controls."""
    asked: list[tuple[str, Request]] = [("Scores", requests.score(setting))]
    for number, step in enumerate(steps, start=1):
        controls = CONTROLS if number == len(steps) else 0
        asked.append((f"Step {number}: {step.label}", requests.evaluate(setting, step.mask, controls)))
    return asked if steps else [*asked, ("Unpruned", requests.evaluate(setting, None))]


def _text(bench: Bench, own: Setting, steps: tuple[Step, ...], said: list[str]) -> str:
    files: dict[str, str] = {}

    def beside(mask: Mask) -> Path:
        name = f"{mask.digest.removeprefix('sha256:')[:12]}.mask.json"
        files[name] = mask.to_json()
        return Path(name)

    asked = asked_of(replace(own, file=beside), steps)
    cells = [NotebookStep(heading, request, text) for (heading, request), text in zip(asked, said, strict=True)]
    if (reading := tasks_at_hand.readings().get(bench.task.name)) is not None and reading.file is not None:
        files[reading.file.name] = reading.file.read().decode("utf-8")
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    about = [
        f"A session of the eigenprune explorer; the cells were run with {used}. It needs `eigenprune-explorer`.",
    ]
    return notebook(f"{bench.model.source.name} on {bench.task.name}", about, cells, files=files)
