"""What a cell means beside what was published, and how much of an ability came back."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.experiments.reproduce.cells import SuiteCell
from explorer.experiments.reproduce.recipe import Published
from explorer.measure.figures import Figures

ROUNDING = 0.005  # published percentages have two digits


@dataclass(frozen=True)
class Verdict:
    """Whether the published percentages lie in the 95 % Wilson intervals of ours, and whether within the tolerance."""

    before_inside: bool
    after_inside: bool
    before_within: bool
    after_within: bool

    def as_dict(self) -> dict[str, bool]:
        """For a report."""
        return dict(vars(self))


def verdict(published: Published, cell: SuiteCell) -> Verdict:
    """Compare a cell with the published value."""
    return Verdict(
        inside(published.before, cell.before),
        inside(published.after, cell.after),
        abs(100 * cell.before.accuracy - published.before) <= published.tolerance + ROUNDING,
        after_within=abs(100 * cell.after.accuracy - published.after) <= published.tolerance + ROUNDING,
    )


def inside(percent: float, figures: Figures) -> bool:
    """Whether a published percentage, up to its rounding, lies in the interval of an accuracy."""
    low, high = figures.accuracy_interval
    return 100 * low - ROUNDING <= percent <= 100 * high + ROUNDING


def recovered(cell: SuiteCell) -> float | None:
    """(pruned - unpruned) / (unpruned with shots - unpruned), accuracies by one metric, over all answer tokens.

    The share of what examples in the prompt bring that the mask brings without them; negative if the mask harms. None
    without a reference, or if examples bring nothing.
    """
    if cell.reference is None:
        return None
    before, after = cell.whole_before or cell.before, cell.whole_after or cell.after
    if cell.reference.metric != before.metric:
        return None
    gain = cell.reference.accuracy - before.accuracy
    return (after.accuracy - before.accuracy) / gain if gain > 0 else None
