"""The Streamlit side of the plot: mount the component, hand out its picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import streamlit as st

from explorer.ui.components.spectrum_chart.payload import describe, held_by_browser
from explorer.ui.components.spectrum_chart.picks import Pick, PickLog
from explorer.ui.components.spectrum_chart.plotly_js import ensure_plotly_js
from explorer.ui.components.spectrum_chart.series import Series
from explorer.ui.session import Widget
from explorer.ui.session.state import of


@dataclass
class Logs:
    """The session's pick logs by the keys of their charts."""

    of: dict[str, PickLog] = field(default_factory=dict)


Axis = Literal["sigma", "log-sigma", "score"]
OnPick = Callable[[tuple[Pick, ...]], None]

# Joined in this order: an inline module cannot import a file.
_SCRIPTS = ("load.js", "save.js", "model.js", "table.js", "figure.js", "marks.js", "geometry.js", "chart.js")


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


LOAD_PLOTLY = _read("load.js")  # loadPlotly(url)
HEIGHT = 420  # pixels
SAVE_TEXT = _read("save.js")  # saveText(name, text)
SCRIPT, STYLE = "\n".join(map(_read, _SCRIPTS)), _read("chart.css")
# plotly.js puts its style sheet into the document's head, out of reach of a shadow root.
_MOUNT = st.components.v2.component("eigenprune_spectrum_chart", js=SCRIPT, css=STYLE, isolate_styles=False)


def spectrum_chart(
    series: Sequence[Series],
    *,
    key: str,
    y: Axis = "log-sigma",
    state: str = "removed",
    around: int | None = None,
    interactive: bool | Literal["cards"] = True,
    by_block: bool = True,
    on_pick: OnPick | None = None,
) -> tuple[Pick, ...]:
    """Draw singular values; let the user click, box- or lasso-select them, or ask for a card.

    Filled = kept, hollow = removed, hollow with a dot = scaled (see ``state``); colour = score in nats (vermilion:
    removing helps, blue: the task needs it). Zoom, pan and tool outlast clicks and changed data; the axes reset when
    the matrices or ``y`` change. Above 3,000 points WebGL draws. In a fragment a pick reruns only the fragment.

    Args:
        series: one entry per matrix, with distinct keys.
        key: Streamlit key; the session holds a pick log for each.
        y: vertical axis: the singular value, linear or logarithmic, or its score in nats per example.
        state: what ``Series.removed`` are; ``"scaled to 50 %"`` and the like get a marker and a legend of their own.
        around: pixels above and below the plot, which is as high as the window leaves; None for ``HEIGHT``, its least.
        interactive: ``False``: no picks; ``"cards"``: a click asks for a card; else a click with Shift does.
        by_block: what the browser draws at once for a pick; give ``apply_picks`` the same value.
        on_pick: called with new picks before the script body: one rerun per pick. If it raises, it gets them again.

    Returns:
        The picks not handed out before, none if ``on_pick`` is given; apply them and call ``st.rerun()``.

    Raises:
        ValueError: if two series have the same matrix key.
    """
    if len({one.matrix for one in series}) != len(series):
        raise ValueError("Each series needs its own matrix key.")
    log, raw = _log(key), _raw(key)
    with log.lock:
        handled = log.handled  # what `series` already contains
        picks = log.take(raw) if interactive and on_pick is None else ()
    log.shown = {one.matrix: int(one.s.size) for one in series}
    _MOUNT(
        key=key,
        data={
            "key": key,
            "plotly": ensure_plotly_js(),
            "epoch": log.epoch,
            "handled": handled,
            "y": "score" if y == "score" else "sigma",
            "log_y": y == "log-sigma",
            "state": state,
            "height": HEIGHT,
            "around": around,
            "interactive": interactive is True,
            "cards": bool(interactive),
            "by_block": by_block,
            **describe(series, held_by_browser(raw)),
        },
        on_log_change=partial(_deliver, key, on_pick) if interactive and on_pick is not None else _ignore,
    )
    return picks


def _ignore() -> None:
    """Streamlit keeps a component's state only if it has a callback."""


def _deliver(key: str, on_pick: OnPick) -> None:
    log, raw = _log(key), _raw(key)
    with log.lock:
        handled = log.handled
        picks = log.take(raw)
        if not picks:
            return
        try:
            on_pick(picks)
        except BaseException:  # a newer message interrupts callbacks; it brings these picks once more
            log.handled = handled
            raise


def _log(key: str) -> PickLog:
    return of(Logs).of.setdefault(key, PickLog())  # in a new session a new epoch voids the old log


def _raw(key: str) -> object:
    sent = Widget[object](key).value
    return sent.get("log") if isinstance(sent, dict) else None
