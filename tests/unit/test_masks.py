"""Masks as values: order, laws of combination, digests, and that nothing changes them."""

from __future__ import annotations

import hashlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from explorer.core.errors import MaskError
from explorer.core.keys import MatrixKey
from explorer.masks.mask import Mask, Mode, ModelIdentity, Provenance, Removed, parse_mask

MODEL = ModelIdentity(source="here", digest="sha256:" + "a" * 64)
OTHER = ModelIdentity(source="there", digest="sha256:" + "b" * 64)
PLACES = [(matrix, index) for matrix in ("L0.Q.H0", "L0.Q.H1", "L0.K", "L1.OUT", "L10.IN") for index in range(3)]
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def masks(draw: st.DrawFn, mode: Mode = "freeze") -> Mask:
    places = draw(st.lists(st.sampled_from(PLACES), unique=True))
    # sigma belongs to the place, c to the data that the mask was made with
    values = [
        Removed(matrix=matrix, index=index, sigma=PLACES.index((matrix, index)) + 0.1, c=draw(FLOATS))
        for matrix, index in places
    ]
    return Mask(model=MODEL, mode=mode, removed=tuple(values))


def places(mask: Mask) -> set[tuple[str, int]]:
    return {(one.matrix, one.index) for one in mask.removed}


def one(matrix: str, index: int, sigma: float = 1.0, c: float = 0.0) -> Removed:
    return Removed(matrix=matrix, index=index, sigma=sigma, c=c)


def mask_of(*values: Removed, mode: Mode = "freeze", gain: float = 0.0) -> Mask:
    return Mask(model=MODEL, mode=mode, gain=gain, removed=values)


@given(masks(), masks(), masks())
def test_masks_combine_as_sets(a: Mask, b: Mask, c: Mask) -> None:
    assert places(a.union(b)) == places(a) | places(b)
    assert places(a.intersection(b)) == places(a) & places(b)
    assert places(a.difference(b)) == places(a) - places(b)
    assert a.union(b).union(c) == a.union(b.union(c))
    assert a.intersection(b).intersection(c) == a.intersection(b.intersection(c))
    assert places(a.union(b)) == places(b.union(a))
    assert a.difference(b).union(a.intersection(b)) == a
    assert a.union(a) == a.intersection(a) == a
    assert len(a.difference(a)) == 0
    assert places(a.difference(b.union(c))) == places(a.difference(b).difference(c))


@given(masks(), masks())
def test_the_first_masks_frozen_means_win(a: Mask, b: Mask) -> None:
    own = {(value.matrix, value.index): value for value in a.removed}
    theirs = {(value.matrix, value.index): value for value in b.removed}
    for combined in (a.union(b), a.intersection(b), a.difference(b)):
        for value in combined.removed:
            place = (value.matrix, value.index)
            assert value == own.get(place, theirs.get(place))


@given(masks(), st.randoms(use_true_random=False))
def test_order_does_not_matter(mask: Mask, chance: random.Random) -> None:
    values = list(mask.removed)
    chance.shuffle(values)
    again = Mask(model=MODEL, removed=tuple(values))
    assert again == mask
    assert again.digest == mask.digest
    assert again.to_json() == mask.to_json()
    assert [(value.key, value.index) for value in again.removed] == sorted((v.key, v.index) for v in values)


@given(masks())
def test_files_bring_back_every_bit(mask: Mask) -> None:
    again = parse_mask(mask.to_json())
    assert again == mask
    assert again.digest == mask.digest
    assert [(value.sigma.hex(), value.c.hex()) for value in again.removed] == [
        (value.sigma.hex(), value.c.hex()) for value in mask.removed
    ]


@given(masks(), masks())
def test_digests_are_equal_exactly_when_the_edits_are(a: Mask, b: Mask) -> None:
    assert (a.digest == b.digest) == ([repr(v) for v in a.removed] == [repr(v) for v in b.removed])


def test_digests_tell_model_mode_and_numbers_apart_but_not_provenance() -> None:
    base = mask_of(one("L0.K", 1, 2.0, 0.5))
    others = [
        mask_of(one("L0.K", 1, 2.0, 0.5), mode="zero"),
        mask_of(one("L0.K", 1, 2.0, 0.5), gain=0.5),
        mask_of(one("L0.K", 1, 2.0, 0.5), gain=0.5000000000000001),
        mask_of(one("L0.K", 2, 2.0, 0.5)),
        mask_of(one("L1.K", 1, 2.0, 0.5)),
        mask_of(one("L0.K", 1, 2.0000000000000004, 0.5)),
        mask_of(one("L0.K", 1, 2.0, 0.25)),
        Mask(model=OTHER, removed=base.removed),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 9
    noted = base.model_copy(update={"provenance": Provenance(task="int-mult"), "metrics": {"accuracy": 0.5}})
    assert noted.digest == base.digest


def test_edits_return_new_masks_and_leave_the_old_one() -> None:
    start = mask_of(one("L0.K", 1), one("L0.K", 2))
    written = start.to_json()
    more = start.with_removed([one("L0.Q", 0), one("L0.K", 1, c=7.0)])
    assert [(value.matrix, value.index, value.c) for value in more.removed] == [
        ("L0.Q", 0, 0.0),
        ("L0.K", 1, 7.0),
        ("L0.K", 2, 0.0),
    ]
    assert places(start.without([("L0.K", 1), ("L5.V", 9)])) == {("L0.K", 2)}
    assert len(start.without_all()) == 0
    assert start.without_all().model == start.model
    assert start.to_json() == written


def test_masks_are_frozen() -> None:
    mask = mask_of(one("L0.K", 1))
    with pytest.raises(ValidationError, match="frozen"):
        mask.mode = "zero"
    with pytest.raises(ValidationError, match="frozen"):
        mask.removed[0].index = 2
    assert isinstance(mask.removed, tuple)


def test_values_are_found_by_matrix() -> None:
    mask = mask_of(one("L1.K.H1", 4), one("L0.Q", 2), one("L1.K.H1", 0))
    assert list(mask.by_matrix) == [MatrixKey.parse("L0.Q"), MatrixKey.parse("L1.K.H1")]
    assert mask.indices(MatrixKey.parse("L1.K.H1")) == {0, 4}
    assert mask.indices(MatrixKey.parse("L1.K.H0")) == frozenset()
    assert len(mask) == 3


def test_keys_are_written_one_way() -> None:
    assert one("L00.K.H01", 0).matrix == "L0.K.H1"
    with pytest.raises(ValidationError, match="is listed twice"):
        mask_of(one("L00.K", 3), one("L0.K", 3))


def test_adding_to_a_mask_what_overlaps_is_refused_and_leaves_it() -> None:
    mask = mask_of(one("L0.K.H1", 0))
    for combine in (lambda: mask.with_removed([one("L0.K", 1)]), lambda: mask.union(mask_of(one("L0.K", 1)))):
        with pytest.raises(MaskError, match=r"L0\.K\.H1 and L0\.K overlap: .* per head or stacked, not both"):
            combine()
    assert places(mask) == {("L0.K.H1", 0)}
    assert len(mask.with_removed([one("L1.K", 0), one("L0.Q", 0)])) == 3


def test_masks_of_other_models_or_modes_do_not_combine() -> None:
    mask = mask_of(one("L0.K", 0))
    for method in (mask.union, mask.intersection, mask.difference):
        with pytest.raises(MaskError, match=r"made for there \(sha256:bbbbbbbb\.\.\.\), not for here"):
            method(Mask(model=OTHER))
        with pytest.raises(MaskError, match="a freeze mask and a zero mask cannot be combined"):
            method(mask_of(mode="zero"))
        with pytest.raises(MaskError, match=r"a mask of gain 0\.0 and a mask of gain 0\.5 cannot be combined: scale"):
            method(mask_of(gain=0.5))


def test_a_mask_in_another_basis_is_refused() -> None:
    folded = Mask(model=MODEL.model_copy(update={"basis": "folded"}))
    with pytest.raises(MaskError, match="made in the folded basis, the model is loaded in the raw one"):
        folded.check_model(MODEL)


def test_masks_of_one_gain_combine_and_keep_it() -> None:
    a, b = mask_of(one("L0.K", 0), one("L0.K", 1), gain=0.3), mask_of(one("L0.K", 1), one("L0.Q", 0), gain=0.3)
    edits = (a.union(b), a.intersection(b), a.difference(b), a.with_removed(b.removed), a.without([("L0.K", 0)]))
    assert {mask.gain for mask in (*edits, a.without_all())} == {0.3}
    assert places(a.union(b)) == places(a) | places(b)


def test_without_a_gain_the_file_and_the_digest_are_what_they_always_were() -> None:
    mask = mask_of(one("L0.K", 1, 2.0, 0.5))
    assert "gain" not in mask.to_json()
    assert mask.digest == "sha256:" + hashlib.sha256(f"{MODEL.digest} raw freeze;L0.K 1 2.0 0.5;".encode()).hexdigest()
    assert parse_mask(mask.to_json()) == mask


@given(masks(), st.floats(0, 1, exclude_max=True))
def test_a_scaled_mask_has_its_gain_and_everything_else_of_the_mask(mask: Mask, gain: float) -> None:
    soft = mask.scaled(gain)
    assert (soft.gain, soft.removed, soft.mode) == (gain, mask.removed, mask.mode)
    assert parse_mask(soft.to_json()).digest == soft.digest
    assert (soft.digest == mask.digest) == (gain == 0)
    assert soft.scaled(0.0) == mask
    assert (soft.state == "removed") == (gain == 0)


def test_a_gain_is_from_0_to_below_1() -> None:
    mask = mask_of(one("L0.K", 1))
    for gain in (-0.1, 1.0, math.nan, math.inf):
        with pytest.raises(MaskError, match=r"\(at gain\)"):
            mask.scaled(gain)
    assert mask.scaled(0.55).state == "scaled to 55 %"
    assert mask.scaled(1 / 3).state == "scaled to 33.33 %"
