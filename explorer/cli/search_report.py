"""The report of a search in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from explorer.cli.console import model_name, say, show_table
from explorer.core.columns import cells, names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from explorer.core.columns import Column
    from explorer.search.evidence.figures import EvidenceFigures
    from explorer.search.report_file import SearchFile

_WHY = {"time": " Time was up.", "stopped": " It was stopped."}
RowT = TypeVar("RowT")


def show_report(report: SearchFile) -> None:
    """The test figures, beside what they are compared with, and what they cost."""
    from explorer.search import columns  # reads what needs torch

    title = f"{model_name(report.model)} on {report.task}: {report.strategy}"
    show_columns(title, columns.measured_columns(report.baseline), columns.measured_rows(report))
    for sentence in columns.figures_sentences(report):
        say(sentence)
    say(f"Test: {columns.change_text(report.comparison)}")
    if report.controls:
        accuracy = columns.control_columns(report.test.accuracy_name)
        show_columns("Controls of the same size, test", accuracy, report.controls.items())
    if report.damage is not None:
        for one in report.damage.tasks:
            say(f"{one.task}: {columns.change_text(one)}")
        if report.damage.text is not None:
            say(columns.text_sentence(report.damage.text))
    if report.evidence is not None:
        _show_evidence(report.evidence)
    say(
        f"{len(report.curve):,} masks measured, {report.forwards:,} forward passes of one example, "
        f"{report.seconds:.0f} s.{_WHY.get(report.stopped, '')}"
    )


def _show_evidence(evidence: EvidenceFigures) -> None:
    """Nulls, baselines, wordings and stability, and what all of it licenses."""
    from explorer.search.evidence import columns

    show_columns("Accuracy on new examples", columns.CLUSTERED_COLUMNS, columns.clustered_rows(evidence))
    if evidence.rivals:
        show_columns("Nulls and baselines, test", columns.RIVAL_COLUMNS, evidence.rivals.items())
    if evidence.wordings:
        show_columns("Other wordings, test", columns.WORDING_COLUMNS, evidence.wordings)
    if evidence.subsets:
        show_columns("Random subsets of the mask, test", columns.SUBSET_COLUMNS, evidence.subsets)
    for sentence in columns.evidence_sentences(evidence):
        say(sentence)
    say(evidence.sentence)


def show_columns(title: str, columns: Sequence[Column[RowT]], rows: Iterable[RowT]) -> None:
    """A table of results."""
    show_table(title, names(columns), cells(columns, rows))
