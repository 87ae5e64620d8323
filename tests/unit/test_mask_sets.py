"""Votes among masks and what two masks share, against counting by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import MaskError
from explorer.masks.mask import Mask, Provenance, parse_mask
from explorer.masks.sets import MaskOverlap, overlaps, vote
from tests.unit.test_masks import OTHER, mask_of, masks, one, places


@given(st.lists(masks(), min_size=1, max_size=5))
def test_a_vote_counts_the_masks_that_remove_a_value(given_masks: list[Mask]) -> None:
    votes = Counter(place for mask in given_masks for place in places(mask))
    for at_least in range(1, len(given_masks) + 1):
        voted = vote(given_masks, at_least)
        assert places(voted) == {place for place, n in votes.items() if n >= at_least}
        for value in voted.removed:  # the first mask that removes it says with which frozen mean
            holders = [
                v for mask in given_masks for v in mask.removed if (v.matrix, v.index) == (value.matrix, value.index)
            ]
            assert value == holders[0]


@given(masks(), masks(), masks())
def test_the_extremes_are_union_and_intersection(a: Mask, b: Mask, c: Mask) -> None:
    assert vote([a, b, c], 1).digest == a.union(b).union(c).digest
    assert vote([a, b, c], 3).digest == a.intersection(b).intersection(c).digest
    assert vote([a, a], 2).digest == a.digest


def test_a_vote_says_what_it_was_made_of() -> None:
    first = mask_of(one("L0.K", 1)).model_copy(update={"provenance": Provenance(task="int-mult")})
    given_masks = [first, mask_of(one("L0.K", 1), one("L0.K", 2)), mask_of()]
    for at_least, how in ((1, "union"), (2, "vote 2"), (3, "intersection")):
        voted = vote(given_masks, at_least)
        assert voted.provenance.task == "int-mult"
        derived = voted.provenance.derived
        assert derived is not None
        assert (derived.how, derived.masks) == (how, tuple(mask.digest for mask in given_masks))
        assert parse_mask(voted.to_json()) == voted
    assert first.provenance.derived is None


def test_what_cannot_be_combined_is_refused() -> None:
    a, b = mask_of(one("L0.K.H1", 0)), mask_of(one("L0.K", 1))
    for at_least in (0, 3):
        with pytest.raises(MaskError, match=f"{at_least} of 2 masks cannot remove a value: ask for 1 to 2"):
            vote([a, a], at_least)
    with pytest.raises(MaskError, match="1 of 0 masks"):
        vote([], 1)
    with pytest.raises(MaskError, match=r"L0\.K\.H1 and L0\.K overlap"):
        vote([a, b], 1)
    with pytest.raises(MaskError, match="made for there"):
        vote([a, Mask(model=OTHER)], 1)
    with pytest.raises(MaskError, match="a freeze mask and a zero mask"):
        vote([a, mask_of(mode="zero")], 1)


@given(masks(), masks("zero"))
def test_overlaps_are_those_of_the_sets(a: Mask, b: Mask) -> None:
    found = overlaps(a, b)
    assert list(found) == sorted(found)
    for key, overlap in found.items():
        ours, theirs = ({place for place in places(mask) if place[0] == str(key)} for mask in (a, b))
        assert ours | theirs
        assert overlap == MaskOverlap(len(ours - theirs), len(theirs - ours), len(ours & theirs))
    total = sum(found.values(), MaskOverlap(0, 0, 0))
    either, both = places(a) | places(b), places(a) & places(b)
    assert total.jaccard == (len(both) / len(either) if either else 1.0)


def test_masks_of_two_models_share_nothing_that_can_be_counted() -> None:
    with pytest.raises(MaskError, match="made for there"):
        overlaps(mask_of(one("L0.K", 0)), Mask(model=OTHER))
