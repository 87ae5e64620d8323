"""`search` for people: the report of a search, or of what the released code removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.actions.report import PAGE
from explorer.actions.search import ReleasedResult, Search, SearchResult
from explorer.cli.console import figures_row, range_text, say, show_table
from explorer.cli.search_report import show_report

if TYPE_CHECKING:
    from explorer.measure.evaluate import Evaluation
    from explorer.search.control_runs import ControlRuns
    from explorer.search.released import ReleasedReport


def show(request: Search, result: SearchResult | ReleasedResult) -> None:
    """Print the report, and where things are."""
    if isinstance(result, ReleasedResult):
        _show_released(result)
        return say(f"Mask: {request.out}{', with averaged means in O' if result.report.averaged else ''}")
    show_report(result.file)
    say(f"Mask: {request.out}")
    if request.report is not None:
        say(f"Report: {request.report / PAGE}")


def _show_released(result: ReleasedResult) -> None:
    found = result.report
    settings, name = found.settings, f"{len(found.mask):,} removed"
    show_table(
        f"{result.model} on {found.task}: paper, as released, in mini-batches of {settings.batch_size}",
        ("", "accuracy [95 % interval]", "loss per example"),
        [
            figures_row("before, test", found.baseline.as_dict()),
            figures_row(f"as released ({name}), test", found.test.as_dict()),
            *(figures_row(f"with averaged means in O ({name}), test", one.as_dict()) for one in _averaged(found)),
            *_exact_rows(found),
            *(
                figures_row(f"{what}, {split}", evaluations[split].as_dict())
                for split in ("validation", "train")
                for what, evaluations in (("before", found.before), ("as released", found.released))
                if split in evaluations
            ),
        ],
    )
    if found.controls:
        show_table(
            "Controls of the same size, frozen alike, test",
            ("control", "draws", "accuracy: median (range)", "beaten in accuracy", "beaten in loss"),
            [_control_row(name, runs) for name, runs in found.controls.items()],
        )
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


def _averaged(found: ReleasedReport) -> list[Evaluation]:
    return [] if found.averaged_test is None else [found.averaged_test]


def _exact_rows(found: ReleasedReport) -> list[tuple[str, str, str]]:
    if found.exact["baseline"] is found.baseline:
        return []
    names = {"baseline": "before", "released": "as released", "averaged": "with averaged means in O"}
    return [figures_row(f"{names[name]}, all answer tokens, test", one.as_dict()) for name, one in found.exact.items()]


def _control_row(name: str, runs: ControlRuns) -> tuple[object, ...]:
    accuracy = [run.accuracy for run in runs.runs]
    beaten = f"{runs.accuracy_percentile:.0f} %", f"{runs.loss_percentile:.0f} %"
    return name, len(accuracy), range_text(accuracy), *beaten
