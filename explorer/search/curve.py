"""The curve along the ranking: growing masks of the lowest-scored values, each measured on one sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.attribution import Scores
from explorer.core.progress import Progress, part
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.measure.sampling import Sample
from explorer.models import View
from explorer.search import lowest, mask_of
from explorer.search.lowest import check_count
from explorer.spectra.cache import SvdCache

STOPS = 16
MasksApart = Callable[[Sequence[Mask], Progress | None], Iterable[Evaluation]]  # masks to their evaluations, in order


@dataclass(frozen=True, eq=False)
class Stop:
    """What removing the `count` lowest-scored values does.

    Attributes:
        comparison: the sample with them removed, beside its baseline.
        predicted: the sum of their scores, nats per example; None if the scores are in another unit.
    """

    count: int
    comparison: Comparison
    predicted: float | None


def stops(total: int) -> list[int]:
    """Numbers of values to stop at: 1 to `total`, each a like factor above the last."""
    return sorted({round(float(one)) for one in np.geomspace(1, total, STOPS)})


def curve(
    view: View,
    svds: SvdCache,
    scores: Scores,
    sample: Sample,
    counts: Sequence[int],
    *,
    gain: float = 0.0,
    apart: MasksApart | None = None,
    progress: Progress | None = None,
) -> tuple[Stop, ...]:
    """Measure a sample at every count; the view is left with the last mask on it, unless they are measured apart.

    Args:
        view: a view of the scored model.
        svds: decompositions.
        scores: the ranking.
        sample: the examples, with the baseline.
        counts: numbers of lowest-scored values.
        gain: share of each of them that stays.
        apart: who measures the masks on the sample's examples; this process if None.
        progress: told (done, total).

    Raises:
        SettingsError: a count that is negative or above the number of scored values, or a sample of another model.
        MaskError: a gain outside of [0, 1).
    """
    for count in counts:
        check_count(scores, count)
    masks = [mask_of(view, scores, lowest(scores, count), gain=gain) for count in counts]
    found = _measured(view, svds, masks, sample=sample, progress=progress) if apart is None else apart(masks, progress)
    return tuple(
        Stop(count, Comparison(measured, sample.baseline), scores.predicted(mask))
        for count, mask, measured in zip(counts, masks, found, strict=True)
    )


def _measured(
    view: View, svds: SvdCache, masks: Sequence[Mask], *, sample: Sample, progress: Progress | None
) -> Iterator[Evaluation]:
    """One mask after the other on the view."""
    for place, mask in enumerate(masks):
        apply(view, mask, svds)
        yield sample.measure(view, part(progress, place / len(masks), (place + 1) / len(masks))).masked
