"""The session as a folder that opens in any browser: figures, controls, flips, values, history, commands, versions."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.actions.request import Tools
from explorer.attribution import score
from explorer.core.files import safe_name
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import View
from explorer.plots.session_page import SharedSession, session_page
from explorer.search.control_runs import ControlFigures, Percentile
from explorer.search.provenance import versions
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, Setting, requests, session, state
from explorer.ui.shell.notebooks import CONTROLS, asked_of, taken_steps


@dataclass(frozen=True)
class _Wanted:
    """The bundle that was last asked for."""

    key: Key


@dataclass(frozen=True, eq=False)
class _Measured:
    """What the page shows of the mask."""

    comparison: Comparison
    controls: Mapping[str, ControlFigures]
    spectra: Mapping[MatrixKey, list[float]]
    scores: Mapping[tuple[str, int], float]


def draw(bench: Bench, own: Setting) -> None:
    """A button that measures what the page shows, and then the folder as a download.

    Args:
        bench: what the page works on.
        own: how the requests are called on this machine.
    """
    key = ("bundle", requests.evaluate(requests.by_contents(bench), bench.mask, CONTROLS), bench.scorer)
    st.caption("As a page that needs no Python: figures, controls, flips, values, history and commands.")
    st.button(
        "Make page", icon=":material/play_arrow:", key="bundle-go", on_click=state.put, args=(_Wanted(key),),
        disabled=not len(bench.mask),
    )  # fmt: skip
    if state.find(_Wanted) != _Wanted(key) or not len(bench.mask):
        return
    measured = on_view(
        bench, key, lambda view, progress: _measured(bench, own, view, progress=progress), label="Making a page"
    )
    if measured is not None:
        st.download_button(
            "Download page", data=_zipped(_files(bench, own, measured)), mime="application/zip",
            file_name=f"{safe_name(bench.model.source.name, 'session')}-page.zip", icon=":material/download:",
            on_click="ignore", key="bundle-file",
        )  # fmt: skip


def _measured(bench: Bench, own: Setting, view: View, progress: Progress) -> _Measured:
    mask, keys = bench.mask, tuple(bench.mask.by_matrix)
    found = requests.evaluate(own, mask, CONTROLS).run(Tools(view=view, task=bench.task)).controls
    progress(50, 100)
    apply(view, mask.without_all(), bench.svds)
    baseline = evaluate(view, bench.task, bench.split, limit=bench.eval_limit)
    scored = score(
        view, bench.task, bench.svds, keys=keys, scorer=bench.scorer, mode=mask.mode, limit=bench.score_limit,
        seed=bench.task.seed,
    )  # fmt: skip
    progress(80, 100)
    apply(view, mask, bench.svds)
    comparison = Comparison(evaluate(view, bench.task, bench.split, limit=bench.eval_limit), baseline)
    spectra = {key: one.s.tolist() for key, one in bench.svds.get_many(view, keys).items()}
    scores = {
        (str(key), i): value for key, one in scored.matrices.items() for i, value in enumerate(one.score.tolist())
    }
    return _Measured(comparison, _controls(found), spectra, scores=scores)


def _controls(found: Mapping[str, Any] | None) -> Mapping[str, ControlFigures]:
    """Controls as `eval` gives them."""
    if found is None:
        return {}
    figures = ControlFigures(
        draws=found["draws"], accuracy=tuple(found["accuracy"]), loss=tuple(found["loss"]),
        percentile=Percentile(**found["percentile"]),
    )  # fmt: skip
    return {found["strategy"]: figures}


def _files(bench: Bench, own: Setting, measured: _Measured) -> dict[str, str]:
    mask = bench.mask

    def beside(one: Mask) -> Path:
        return Path("mask.json") if one.digest == mask.digest else own.file(one)

    history = session.history(bench.model)
    commands = [
        (what, request.as_command()) for what, request in asked_of(replace(own, file=beside), taken_steps(bench))
    ]
    page = session_page(
        SharedSession(
            model=(bench.model.source.name, bench.model.digest),
            task=(bench.task.name, bench.task.digest),
            split=bench.split,
            mask=mask,
            comparison=measured.comparison,
            controls=measured.controls,
            spectra=measured.spectra,
            scores=measured.scores,
            history=[(step.label, len(step.mask)) for step in history.steps[: history.position + 1]],
            commands=[commands[0], commands[-1]],
            versions=versions(),
            files=["mask.json"],
        )
    )
    return {"index.html": page, "mask.json": mask.to_json()}


def _zipped(files: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"page/{name}", text)
    return stream.getvalue()
