"""Masks in URLs: the same mask comes back, bit for bit; what was cut off, changed or foreign is a sentence."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import MaskError
from explorer.masks.library import id_of
from explorer.masks.links import INLINE, inline_mask, link_text, reference
from explorer.masks.mask import Mask, ModelIdentity, Removed

MODEL = ModelIdentity(source="m", digest="sha256:" + "a1" * 32)
OTHER = ModelIdentity(source="n", digest="sha256:" + "b2" * 32)
MATRICES = ("L0.Q.H0", "L0.K.H11", "L3.V", "L12.GATE", "L2.OUT")
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def masks(draw: st.DrawFn, most: int = INLINE) -> Mask:
    places = draw(st.sets(st.tuples(st.sampled_from(MATRICES), st.integers(0, 5_000)), max_size=most))
    removed = [Removed(matrix=matrix, index=index, sigma=abs(draw(FINITE)), c=draw(FINITE)) for matrix, index in places]
    gain = draw(st.one_of(st.just(0.0), st.floats(0, 1, exclude_max=True)))
    return Mask(model=MODEL, mode=draw(st.sampled_from(["freeze", "zero"])), gain=gain, removed=tuple(removed))


@given(masks())
def test_a_mask_comes_back_bit_for_bit(mask: Mask) -> None:
    text = link_text(mask)
    if not text:
        assert mask == Mask(model=MODEL)
        return
    assert quote(text, safe="") == text  # URLs leave it as it is
    back = inline_mask(text, MODEL)
    assert (back.removed, back.gain, back.mode) == (mask.removed, mask.gain, mask.mode)
    assert back.digest == mask.digest


def test_a_text_without_a_gain_is_what_it_always_was() -> None:
    mask = Mask(model=MODEL, removed=(Removed(matrix="L0.Q", index=1, sigma=2.0, c=0.1),))
    assert link_text(mask) == "f~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1"
    assert link_text(mask.scaled(0.5)) == "f0.5~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1"


def long_mask(count: int) -> Mask:
    return Mask(model=MODEL, removed=tuple(Removed(matrix="L0.Q", index=i, sigma=2.0, c=0.1) for i in range(count)))


def test_long_masks_go_by_their_id() -> None:
    assert link_text(long_mask(INLINE)).startswith("f~a1a1a1a1a1a1~")
    assert len(link_text(long_mask(INLINE))) < 2_000
    text = link_text(long_mask(INLINE + 1))
    found = reference(text)
    assert (found.model, found.id) == ("a1" * 6, id_of(long_mask(INLINE + 1)))
    with pytest.raises(MaskError, match="cut off or changed"):
        inline_mask(text, MODEL)


def test_another_model_is_a_sentence() -> None:
    with pytest.raises(MaskError, match="made for other weights") as caught:
        inline_mask(link_text(long_mask(2)), OTHER)
    assert "load the model that the link was made with" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "f",
        "f~~",
        "x~a1a1a1a1a1a1~AA~L0.Q_1",
        "f1.0~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1",
        "f-0.5~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1",
        "fnan~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1",
        "f9e-0~a1a1a1a1a1a1~AAAAAAAAAECamZmZmZm5Pw~L0.Q_1",
        "f~a1a1a1a1a1a1~AA~L0.Q_1",
        "f~a1a1a1a1a1a1~~L0.Q_1",
        "f~a1a1a1a1a1a1~" + "A" * 22 + "~L0.Q_-1",
        "f~a1a1a1a1a1a1~" + "A" * 22 + "~L0.WHAT_1",
        "f~a1a1a1a1a1a1~" + "A" * 22 + "~L0.Q_one",
        "f~a1a1a1a1a1a1~" + "!" * 22 + "~L0.Q_1",
        "f~a1a1a1a1a1a1~AAAAAAAA8H8AAAAAAAAAAA~L0.Q_1",  # sigma is infinite
        "id~a1a1a1a1a1a1~../../etc/pas",
        "id~a1a1a1a1a1a1~" + "0" * 13,
        "f~" + "a" * 9_000,
    ],
)
def test_a_damaged_text_is_a_sentence(text: str) -> None:
    with pytest.raises(MaskError, match="the link's mask is cut off or changed"):
        inline_mask(text, MODEL)


@given(masks(4), st.data())
def test_a_text_that_was_cut_off_never_gives_the_same_mask(mask: Mask, data: st.DataObject) -> None:
    text = link_text(mask)
    if not len(mask):
        return
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    with suppress(MaskError):
        assert inline_mask(cut, MODEL).digest != mask.digest
