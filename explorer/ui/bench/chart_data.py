"""From decompositions, scores and mask to what the clickable plot shows, and back to a mask; choosing matrices."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import streamlit as st

from explorer.attribution import Scores
from explorer.core.keys import AnyKey, Circuit, CircuitKey, Kind, MatrixKey
from explorer.masks.mask import Mask, Removed
from explorer.models.matrices import matrices
from explorer.spectra.circuits import circuits
from explorer.spectra.measures import blocks, null_from, summarise
from explorer.ui.components.spectrum_chart import Axis, Series
from explorer.ui.session import links, work
from explorer.ui.session.session import Bench
from explorer.ui.streamlit_internals.elements import DeltaGenerator

MOST_OTHERS = 48  # matrices beside the first


def scored_keys(bench: Bench) -> tuple[MatrixKey, ...]:
    """The bench's set of scored matrices."""
    with bench.views.borrow() as view:
        return matrices(view, bench.kinds, per_head=bench.per_head)


def every_key(bench: Bench) -> tuple[MatrixKey, ...]:
    """Every matrix of the model, per head and stacked, in canonical order."""
    with bench.views.borrow() as view:
        return tuple(sorted({*matrices(view), *matrices(view, per_head=False)}))


def every_product(bench: Bench) -> tuple[CircuitKey, ...]:
    """Every QK and OV of the model, layer by layer."""
    with bench.views.borrow() as view:
        return circuits(view)


def choose_matrix(keys: Sequence[AnyKey], start: MatrixKey, boxes: Sequence[DeltaGenerator]) -> AnyKey:
    """Pick one of `keys` by layer, kind or product, and head or stacked, in three boxes."""
    layer_box, kind_box, head_box = boxes
    layers = sorted({key.layer for key in keys})
    _start("spectra-layer", layers, start.layer)
    layer = layer_box.selectbox("Layer", layers, key="spectra-layer", persist_state="session", help="Counted from 0.")
    existing = {_sort(key) for key in keys}
    kinds = [kind for kind in (*Kind, *Circuit) if kind in existing]
    _start("spectra-kind", kinds, start.kind)
    kind = kind_box.segmented_control(
        "Kind", kinds, required=True, key="spectra-kind", persist_state="session",
        help="Attention's Q, K, V and O, the MLP's IN, GATE and OUT; QK and OV are products of a head's two matrices.",
    )  # fmt: skip
    heads = [key.head for key in keys if key.layer == layer and _sort(key) is kind]
    _start(f"spectra-head-{kind}", heads, start.head)
    head = head_box.selectbox(
        "Head",
        heads,
        format_func=lambda one: "stacked" if one is None else f"head {one}",
        key=f"spectra-head-{kind}",
        persist_state="session",
        disabled=len(heads) == 1,
        help="One head's part of the matrix, or all heads stacked: other singular values.",
    )
    return next(key for key in keys if (key.layer, _sort(key), key.head) == (layer, kind, head))


def _start(key: str, options: Sequence[Hashable], first: Hashable) -> None:
    """Have a widget begin at `first`, unless it holds one of its options; one of another model must not linger."""
    if key not in st.session_state or st.session_state[key] not in options:
        st.session_state[key] = first if first in options else options[0]


def chosen_matrix(keys: Sequence[AnyKey]) -> AnyKey | None:
    """What the three boxes of `choose_matrix` hold now, which callbacks may ask before the page runs."""
    kind = st.session_state.get("spectra-kind")
    place = st.session_state.get("spectra-layer"), kind, st.session_state.get(f"spectra-head-{kind}")
    return next((key for key in keys if (key.layer, _sort(key), key.head) == place), None)


def show_matrix(key: AnyKey) -> None:
    """Put a matrix into the three boxes of `choose_matrix`; for callbacks, and before they are drawn."""
    sort = _sort(key)
    st.session_state.update({"spectra-layer": key.layer, "spectra-kind": sort, f"spectra-head-{sort}": key.head})


def choose_layers(keys: Sequence[AnyKey], first: AnyKey, name: str) -> None:
    """Take the same matrix of all layers, or of every n-th, into the box of others with the key `name`."""
    with st.popover("Layers", icon=":material/layers:", key="layers", help="The same matrix in other layers"):
        layers = len({key.layer for key in keys})
        least = -(-(layers - 1) // MOST_OTHERS)
        every = int(
            st.number_input("Every n-th layer", least, max(layers - 1, least), least, key="layers-every", width=150)
        )
        others = same_elsewhere(keys, first, every)
        st.button(
            f"Compare {len(others) + 1:,} layers",
            key="layers-take",
            disabled=not others,
            on_click=lambda: st.session_state.update({name: [str(key) for key in others]}),
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


def choose_axis(keys: tuple[str, str], *, scored: bool) -> Axis:
    """What the plot's height shows; `keys` name the two widgets, for what it is and for whether it is logarithmic."""
    heights = ["singular value", "score"]
    links.restore(keys[0], keys[0], heights[0], links.one_of(heights))
    links.restore(keys[1], keys[1], True, links.one_of([False]))
    height = st.segmented_control(
        "Height",
        heights,
        required=True,
        key=keys[0],
        persist_state="session",
        help="What the height of a point is; its colour is the score either way.",
    )
    by_score = height == "score"
    log_y = st.toggle(
        "Log axis", key=keys[1], persist_state="session", disabled=by_score,
        help="Logarithmic height; scores have two signs and are always linear.",
    )  # fmt: skip
    links.keep(keys[0], height, heights[0])
    links.keep(keys[1], log_y, True)
    if by_score and scored:
        return "score"
    return "log-sigma" if log_y else "sigma"


def series(bench: Bench, keys: Sequence[AnyKey], scores: Scores | None, *, edges: bool = False) -> list[Series] | None:
    """One series per matrix for the plot; None while a decomposition is under way.

    Args:
        bench: what is looked at.
        keys: matrices and products; products have no scores and nothing removed.
        scores: their scores, where there are any.
        edges: whether to draw where the random bulk ends.
    """
    if not work.prepared(bench, keys):
        return None
    found = []
    for key in keys:
        decomposition = work.decomposition(bench, key)
        if decomposition is None:
            return None
        matrix = key if isinstance(key, MatrixKey) else None
        scored = scores.matrices.get(matrix) if matrix is not None and scores is not None else None
        d_in, d_out = decomposition.u.shape[0], decomposition.vh.shape[1]
        null = null_from(decomposition.s, d_in, d_out)
        found.append(
            Series(
                matrix=str(key),
                s=decomposition.s.numpy(),
                score=None if scored is None else scored.score.double().numpy(),
                removed=frozenset() if matrix is None else bench.mask.indices(matrix),
                blocks=blocks(decomposition.s[:null]) if null else (),
                null_from=null if null < decomposition.rank else None,
                uncertain=frozenset() if scored is None else scored.uncertain_indices,
                edge=summarise(decomposition.s, d_in, d_out).bulk_edge if edges else None,
            )
        )
    return found


def with_removed(mask: Mask, scores: Scores, changed: Mapping[str, Iterable[int]]) -> Mask:
    """`mask` with the removed indices of some matrices replaced by those in `changed` (matrix key -> indices).

    A value that stays removed keeps its entry, and with it the frozen mean that the mask had.
    """
    gone = {(one.matrix, one.index) for one in mask.removed if one.matrix in changed}
    new: list[Removed] = []
    for matrix, indices in changed.items():
        key, kept = MatrixKey.parse(matrix), mask.indices(MatrixKey.parse(matrix))
        gone -= {(matrix, index) for index in indices}
        new += [scores.removed(key, index) for index in indices if index not in kept]
    return mask.without(gone).with_removed(new)
