"""Matrix keys: what is written is what is read, in canonical order, and nothing else is a key."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.core.errors import MatrixError
from explorer.core.keys import ATTENTION, Kind, MatrixKey, parse_kinds


@given(st.integers(0, 999_999), st.sampled_from(list(Kind)), st.none() | st.integers(0, 999_999))
def test_keys_survive_being_written_and_read(layer: int, kind: Kind, head: int | None) -> None:
    key = MatrixKey(layer, kind, head if kind.has_heads else None)
    assert MatrixKey.parse(str(key)) == key
    assert MatrixKey.parse(f" {key}\n") == key


def test_keys_look_as_documented() -> None:
    assert str(MatrixKey(3, Kind.K, 5)) == "L3.K.H5"
    assert str(MatrixKey(3, Kind.K)) == "L3.K"
    assert str(MatrixKey(0, Kind.IN)) == "L0.IN"
    assert MatrixKey(3, Kind.K, 5).stacked == MatrixKey(3, Kind.K)


@pytest.mark.parametrize(
    "text", ["", "L0", "K.H1", "L0.X", "L0.K.H", "L-1.K", "L0.k", "0.K", "L0.K.H1.H2", "L0.K.5", "L1234567.K", "L0 .K"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MatrixError, match=r"is not a matrix key: expected layer, kind .* as in L0\.K\.H1"):
        MatrixKey.parse(text)


@pytest.mark.parametrize("kind", [Kind.IN, Kind.GATE, Kind.OUT])
def test_mlp_matrices_have_no_heads(kind: Kind) -> None:
    with pytest.raises(MatrixError, match=f"{kind} matrices have none: write L2.{kind}"):
        MatrixKey.parse(f"L2.{kind}.H1")
    assert kind not in ATTENTION


def test_keys_sort_by_layer_then_kind_then_stacked_before_heads() -> None:
    ordered = ["L0.Q", "L0.Q.H0", "L0.Q.H2", "L0.Q.H10", "L0.K", "L0.V", "L0.O", "L0.IN", "L0.GATE", "L0.OUT", "L2.Q"]
    shuffled = random.Random(3).sample(ordered, len(ordered))
    assert [str(key) for key in sorted(map(MatrixKey.parse, shuffled))] == ordered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Q,K", "Q K"),
        ("k, q", "Q K"),
        ("OUT", "OUT"),
        ("all", "Q K V O IN GATE OUT"),
        ("ALL", "Q K V O IN GATE OUT"),
        ("QKVO", "Q K V O"),
        ("ovq", "Q V O"),
        ("qk,out", "Q K OUT"),
        ("IN, QK", "Q K IN"),
    ],
)
def test_lists_of_kinds_come_in_canonical_order(text: str, expected: str) -> None:
    assert parse_kinds(text) == tuple(map(Kind, expected.split()))


@pytest.mark.parametrize("text", ["", ",", "Q,X", "Q K", "QKOUT", "QX"])
def test_lists_with_unknown_kinds_are_refused(text: str) -> None:
    with pytest.raises(MatrixError, match="is not a list of kinds: expected some of Q, K, V, O, IN, GATE, OUT"):
        parse_kinds(text)
