"""The report of a search in the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from explorer.cli.console import range_text, say, show_figures, show_table
from explorer.core.finite import perplexity_text

if TYPE_CHECKING:
    from explorer.search.report_file import Compared, Control, Figures, SearchFile

_WHY = {"time": " Time was up.", "stopped": " It was stopped."}


def show_report(report: SearchFile) -> None:
    """The test figures, beside what they are compared with, and what they cost."""
    name = f"{report.removed:,} removed ({report.mode})"
    show_figures(
        f"{report.model} on {report.task}: {report.strategy}",
        [
            ("unpruned, test", _plain(report.baseline)),
            (f"{name}, test", _plain(report.test)),
            (f"{name}, validation", _plain(report.validation)),
            (f"{name}, train", _plain(report.train)),
        ],
    )
    if report.test_limit is not None:
        say(f"Test figures are those of at most {report.test_limit:,} examples.")
    say(f"Test: {_change(report.comparison)}")
    if report.controls:
        show_table(
            "Controls of the same size, test",
            ("control", "draws", "accuracy: median (range)", "beaten in accuracy", "beaten in loss"),
            [_control_row(name, one) for name, one in report.controls.items()],
        )
    _show_damage(report)
    say(
        f"{len(report.curve):,} masks measured, {report.forwards:,} forward passes of one example, "
        f"{report.seconds:.0f} s.{_WHY.get(report.stopped, '')}"
    )


def _show_damage(report: SearchFile) -> None:
    if report.damage is None:
        return
    for one in report.damage.tasks:
        say(f"{one.task}: {_change(one)}")
    if report.damage.text is not None:
        text = report.damage.text
        low, high = (100 * _number(bound) for bound in text.growth.interval)
        before, after = (perplexity_text(one.perplexity, one.loss) for one in (text.baseline, text.masked))
        say(
            f"Perplexity of {text.baseline.tokens:,} tokens of text: {before} unpruned, "
            f"{after} with the mask: {100 * _number(text.growth.value):+.1f} % "
            f"[{low:+.1f}, {high:+.1f}]"
        )


def _control_row(name: str, control: Control) -> tuple[object, ...]:
    beaten = f"{control.percentile.accuracy:.0f} %", f"{control.percentile.loss:.0f} %"
    return name, control.draws, range_text(control.accuracy), *beaten


def _change(compared: Compared) -> str:
    test, change = compared.accuracy_test, compared.loss_change
    low, high = (_number(bound) for bound in change.interval)
    return (
        f"wrong to right {test.repaired:,}, right to wrong {test.broken:,}, McNemar p = {test.p:.2g}; "
        f"loss {_number(change.value):+.3f} nats, 95 % bootstrap interval [{low:+.3f}, {high:+.3f}]"
    )


def _plain(figures: Figures) -> dict[str, Any]:
    found = figures.model_dump()
    return {**found, "loss": _number(figures.loss), "loss_stderr": _number(figures.loss_stderr)}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
