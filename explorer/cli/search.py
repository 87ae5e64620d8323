"""`search` for people: the report of a search, or of what the released code removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.actions.evidence import EvidenceResult, MeasureEvidence
from explorer.actions.report import PAGE
from explorer.actions.search import ReleasedResult, Search, SearchResult
from explorer.cli.console import model_name, say
from explorer.cli.search_report import show_columns, show_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from explorer.measure.figures import Figures
    from explorer.search.released import ReleasedReport

_EXACT = {"baseline": "before", "released": "as released", "averaged": "with averaged means in O"}


def show(request: Search, result: SearchResult | ReleasedResult) -> None:
    """Print the report, and where things are."""
    if isinstance(result, ReleasedResult):
        _show_released(result)
        return say(f"Mask: {request.out}{', with averaged means in O' if result.report.averaged else ''}")
    show_report(result.report.file)
    say(f"Mask: {request.out}")
    if request.report is not None:
        say(f"Report: {request.report / PAGE}")


def show_evidence(request: MeasureEvidence, result: EvidenceResult) -> None:
    """Print the report of a mask that was given."""
    show_report(result.report.file)
    if request.report is not None:
        say(f"Report: {request.report / PAGE}")


def _show_released(result: ReleasedResult) -> None:
    from explorer.search.columns import control_columns, measured_columns

    found, settings = result.report, result.report.settings
    rows = list(_released_rows(found))
    show_columns(
        f"{model_name(result.model)} on {found.task}: paper, as released, in mini-batches of {settings.batch_size}",
        measured_columns(rows[0][1]), rows,
    )  # fmt: skip
    if found.controls:
        controls = [(name, runs.figures) for name, runs in found.controls.items()]
        show_columns("Controls of the same size, frozen alike, test", control_columns(), controls)
    padded = (
        f", padded on the left, read {'with' if found.reads_bos else 'without'} a BOS" if found.means.padded else ""
    )
    say(
        f"Right is answer token {settings.answer_token} at the prompt's last position. Frozen means are summed over "
        f"{found.positions} positions{padded}; those of O are kept by position. {found.forwards:,} forward passes of "
        f"one example, {found.seconds:.0f} s."
    )
    if result.bos_in_answers and settings.answer_token == 0:
        say("The tokenizer puts a BOS in front of an answer, too: as released, token 0 is that BOS.")
    if settings.batch_size == 1:
        say("With mini-batches of one every score is 0: values went in the order of their places.")


def _released_rows(found: ReleasedReport) -> Iterator[tuple[str, Figures]]:
    """Every evaluation by what was measured on what."""
    from explorer.measure.figures import Figures

    removed = f"({len(found.mask):,} removed)"
    yield "before, test", Figures.of(found.baseline)
    yield f"as released {removed}, test", Figures.of(found.test)
    if found.averaged_test is not None:
        yield f"with averaged means in O {removed}, test", Figures.of(found.averaged_test)
    if found.exact["baseline"] is not found.baseline:
        for name, one in found.exact.items():
            yield f"{_EXACT[name]}, all answer tokens, test", Figures.of(one)
    for split in ("validation", "train"):
        for what, evaluations in (("before", found.before), ("as released", found.released)):
            if split in evaluations:
                yield f"{what}, {split}", Figures.of(evaluations[split])
