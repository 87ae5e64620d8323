"""The widget: the page's plot in a notebook, whose picks change a mask, and whose mask is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from explorer.actions.names import Split
from explorer.core.texts import percent
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.ui.bench.chart_data import with_removed
from explorer.ui.components.spectrum_chart.chart import HEIGHT, SCRIPT, STYLE
from explorer.ui.components.spectrum_chart.payload import describe, held_by_browser
from explorer.ui.components.spectrum_chart.picks import PickLog, apply_picks
from explorer.ui.components.spectrum_chart.plotly_js import plotly_file
from explorer.widget.state import ShownMatrices

_HERE = Path(__file__).parent
_MOUNT = SCRIPT.replace("export default function (component)", "function mountChart(component)")


class SpectrumWidget(anywidget.AnyWidget):
    """The clickable plot of singular values.

    Attributes:
        mask: what is removed; can be set, and observed with `observe(function, "mask")`.
        history: the masks so far, the first one removes nothing.
        comparison: the task's figures with the mask and without; None if none are measured.
    """

    _esm = _MOUNT + (_HERE / "widget.js").read_text(encoding="utf-8")
    _css = STYLE + (_HERE / "widget.css").read_text(encoding="utf-8")
    data = traitlets.Dict().tag(sync=True)
    log_sent = traitlets.Dict().tag(sync=True)
    figures: Any = traitlets.List().tag(sync=True)
    mask = traitlets.Instance(Mask)
    history = traitlets.Tuple()
    comparison = traitlets.Instance(Comparison, allow_none=True)

    def __init__(self, shown: ShownMatrices, measured: tuple[Split, int | None] | None = None) -> None:
        self._shown, self._measured, self._picks = shown, measured, PickLog()
        self._baseline: Evaluation | None = None
        super().__init__(mask=shown.start, history=(shown.start,))
        self._draw()
        self._measure()
        self.observe(self._taken, "log_sent")
        self.observe(self._changed, "mask")
        self.on_msg(self._asked)

    @traitlets.validate("mask")
    def _own(self, proposal: Any) -> Mask:
        mask: Mask = proposal["value"]
        mask.check_model(self._shown.start.model)
        return mask

    def _taken(self, change: Any) -> None:
        """Apply what was clicked; an empty message asks for arrays that the browser does not hold."""
        with self._picks.lock:
            picks = self._picks.take(change["new"])
            now = apply_picks(self._shown.series(self.mask), picks)
        if now:
            self.mask = with_removed(self.mask, self._shown.scores, now)
        self._draw()

    def _changed(self, change: Any) -> None:
        self.history = (*self.history, change["new"])
        self._draw()
        self._measure()

    def _draw(self) -> None:
        series, log = self._shown.series(self.mask), self._picks
        log.shown = {one.matrix: int(one.s.size) for one in series}
        self.data = {
            "key": log.epoch, "plotly": "", "epoch": log.epoch, "handled": log.handled, "y": "sigma", "log_y": True,
            "state": self.mask.state, "height": HEIGHT, "around": None, "interactive": True, "by_block": True,
            **describe(series, held_by_browser(self.log_sent)),
        }  # fmt: skip

    def _measure(self) -> None:
        if self._measured is None:
            return
        (split, limit), shown = self._measured, self._shown
        assert shown.task is not None
        if self._baseline is None:
            with shown.model.pruned(shown.start) as plain:
                self._baseline = plain.evaluate(shown.task, split=split, limit=limit)
        with shown.model.pruned(self.mask) as view:
            masked = view.evaluate(shown.task, split=split, limit=limit)
        self.comparison = Comparison(masked, self._baseline)
        self.figures = [
            [f"{shown.task.name}, {split} split", "accuracy", "95 % interval", "loss (nats)"],
            *(_row(name, one) for name, one in (("unpruned", self._baseline), ("with the mask", masked))),
        ]

    def _asked(self, widget: Any, content: Any, buffers: Any) -> None:
        """The browser has no plot library yet."""
        if content == {"wants": "plotly"}:
            self.send({"plotly": True}, [plotly_file().read_bytes()])


def _row(name: str, one: Any) -> list[str]:
    low, high = one.accuracy_interval
    loss = one.mean_loss
    return [
        f"{name} (n = {one.n:,})", percent(one.accuracy), f"{percent(low)} to {percent(high)}",
        f"{loss.value:.3f} ± {loss.stderr:.3f}",
    ]  # fmt: skip
