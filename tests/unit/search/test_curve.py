"""The curve along the ranking: each of its stops is the mask of so many lowest-scored values, on the sample."""

from __future__ import annotations

import pytest

from explorer.attribution import score
from explorer.core.errors import MaskError, SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.evaluate import evaluate
from explorer.measure.sampling import draw_sample
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import lowest, mask_of
from explorer.search.curve import STOPS, curve, stops
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

ALL = float("inf")


@pytest.mark.parametrize("total", [1, 2, 7, 1024, 46_080])
def test_stops_grow_by_like_factors_from_one_to_all(total: int) -> None:
    found = stops(total)
    assert (found[0], found[-1]) == (1, total)
    assert found == sorted(set(found))
    assert len(found) == STOPS or total < 1024


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_a_stop_is_the_mask_of_so_many_lowest_scores(view: View, tiny_task: Task, svds: SvdCache, gain: float) -> None:
    scores = score(view, tiny_task, svds, matrices(view, [Kind.Q, Kind.K]))
    sample = draw_sample(view, tiny_task, "train", seconds=ALL)
    seen: list[tuple[int, int]] = []
    found = curve(view, svds, scores, sample, [0, 1, 5], gain=gain, progress=lambda *told: seen.append(told))
    assert seen[-1][0] == seen[-1][1]
    masks = [mask_of(view, scores, lowest(scores, count), gain=gain) for count in (0, 1, 5)]
    for stop, mask in zip(found, masks, strict=True):
        apply(view, mask, svds)
        expected = evaluate(view, tiny_task, "train")
        assert stop.count == len(mask)
        assert stop.comparison.masked.loss == pytest.approx(expected.loss, abs=1e-5)
        assert stop.comparison.baseline is sample.baseline
        assert stop.predicted == scores.predicted(mask)
    assert found[0].comparison.loss_change.value == pytest.approx(0, abs=1e-6)
    assert found[1].comparison.loss_change.value != found[2].comparison.loss_change.value


def test_bad_counts_and_gains_are_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    scores = score(view, tiny_task, svds, matrices(view, [Kind.Q]), scorer="random")
    sample = draw_sample(view, tiny_task, "train", seconds=ALL)
    for counts in ([1, scores.size + 1], [-1]):
        with pytest.raises(SettingsError, match="choose 0 to"):
            curve(view, svds, scores, sample, counts)
    with pytest.raises(MaskError, match="less than 1"):
        curve(view, svds, scores, sample, [1], gain=1.0)
    (stop,) = curve(view, svds, scores, sample, [1])
    assert stop.predicted is None  # chance predicts nothing
