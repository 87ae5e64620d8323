"""Which matrices the Spectra page shows: one by layer, kind and head, and others beside it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import streamlit as st

from explorer.core.keys import AnyKey, Circuit, CircuitKey, Kind, MatrixKey, parse_key
from explorer.ui.session import Bench, Widget, links, state
from explorer.ui.streamlit_internals.elements import DeltaGenerator

MOST_OTHERS = 48  # matrices beside the first
_LAYER: Widget[int] = Widget("spectra-layer")
_KIND: Widget[Kind | Circuit] = Widget("spectra-kind")


@dataclass(frozen=True)
class _StandIn:
    """The matrix that is shown until the scores say which one to begin with."""

    matrix: MatrixKey


def choose_matrix(keys: Sequence[AnyKey], start: MatrixKey, boxes: Sequence[DeltaGenerator]) -> AnyKey:
    """Pick one of `keys` by layer, kind or product, and head or stacked, in three boxes."""
    layer_box, kind_box, head_box = boxes
    layers = sorted({key.layer for key in keys})
    _start(_LAYER.key, layers, start.layer)
    layer = layer_box.selectbox("Layer", layers, key=_LAYER.key, persist_state="session", help="Counted from 0.")
    existing = {_sort(key) for key in keys}
    kinds = [kind for kind in (*Kind, *Circuit) if kind in existing]
    _start(_KIND.key, kinds, start.kind)
    kind = kind_box.segmented_control(
        "Kind", kinds, required=True, key=_KIND.key, persist_state="session",
        help="Attention's Q, K, V and O, the MLP's IN, GATE and OUT; QK and OV are products of a head's two matrices.",
    )  # fmt: skip
    heads = [key.head for key in keys if key.layer == layer and _sort(key) is kind]
    _start(_head(kind).key, heads, start.head)
    head = head_box.selectbox(
        "Head",
        heads,
        format_func=lambda one: "stacked" if one is None else f"head {one}",
        key=_head(kind).key,
        persist_state="session",
        disabled=len(heads) == 1,
        help="One head's part of the matrix, or all heads stacked: other singular values.",
    )
    return next(key for key in keys if (key.layer, _sort(key), key.head) == (layer, kind, head))


def _start(key: str, options: Sequence[Hashable], first: Hashable) -> None:
    """Have a widget begin at `first`, unless it holds one of its options; one of another model must not linger."""
    widget = Widget[Hashable](key)
    if not widget.held or widget.value not in options:
        widget.put(first if first in options else options[0])


def chosen_matrix(keys: Sequence[AnyKey]) -> AnyKey | None:
    """What the three boxes of `choose_matrix` hold now, which callbacks may ask before the page runs."""
    place = _LAYER.value, _KIND.value, _head(_KIND.value).value
    return next((key for key in keys if (key.layer, _sort(key), key.head) == place), None)


def show_matrix(key: AnyKey) -> None:
    """Put a matrix into the three boxes of `choose_matrix`; for callbacks, and before they are drawn."""
    _LAYER.put(key.layer)
    _KIND.put(_sort(key))
    _head(_sort(key)).put(key.head)


def choose_layers(bench: Bench, keys: Sequence[AnyKey], first: AnyKey) -> None:
    """Take the same matrix of all layers, or of every n-th, into the box of others."""
    with st.popover("Layers", icon=":material/layers:", key="layers", help="The same matrix in other layers"):
        layers = len({key.layer for key in keys})
        least = -(-(layers - 1) // MOST_OTHERS)
        every = int(
            st.number_input(
                "Every n-th layer",
                min_value=least,
                max_value=max(layers - 1, least),
                value=least,
                key="layers-every",
                width=150,
            )
        )
        others = same_elsewhere(keys, first, every)
        st.button(
            f"Compare {len(others) + 1:,} layers",
            key="layers-take",
            disabled=not others,
            on_click=lambda: compared(bench).put([str(key) for key in others]),
        )


def same_elsewhere(keys: Sequence[AnyKey], first: AnyKey, every: int) -> tuple[AnyKey, ...]:
    """The matrices of `first`'s kind and head in every n-th layer, counted from its own, without itself."""
    return tuple(
        key
        for key in keys
        if (_sort(key), key.head) == (_sort(first), first.head)
        and key.layer != first.layer
        and (key.layer - first.layer) % every == 0
    )


def _sort(key: AnyKey) -> Kind | Circuit:
    return key.circuit if isinstance(key, CircuitKey) else key.kind


def show_asked(bench: Bench, keys: Sequence[AnyKey], usual: MatrixKey, *, scored: bool) -> None:
    """Choose what the URL asks for: the first matrix in the three boxes, the others to compare with.

    Until the matrices are scored, `usual` stands in for the one with the lowest score, which then takes its place.
    """
    asked = _asked(usual, set(map(str, keys)), scored=scored)
    if asked is None:
        return
    first, *others = [parse_key(one) for one in asked] or [usual]
    show_matrix(first)
    compared(bench).put([str(one) for one in others])


def _asked(usual: MatrixKey, known: set[str], *, scored: bool) -> tuple[str, ...] | None:
    if not scored:
        if not _LAYER.held:
            state.put(_StandIn(usual))
        return links.asked_matrices("matrix", known) if links.named("matrix") else None
    start = state.take(_StandIn)
    asked = links.asked_matrices("matrix", known)
    if asked is not None or start is None:
        return asked
    shown = (_LAYER.value, _KIND.value, _head(start.matrix.kind).value)
    return () if shown == (start.matrix.layer, start.matrix.kind, start.matrix.head) else None


def compared(bench: Bench) -> Widget[list[str]]:
    """The box of matrices to compare with; each model has its own."""
    return Widget(f"compare-{bench.model.digest[7:15]}")


def _head(kind: Kind | Circuit | None) -> Widget[int | None]:
    return Widget(f"spectra-head-{kind}")
