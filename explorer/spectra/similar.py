"""Which singular directions of other matrices are like one, or are composed with it.

In the residual stream, at a fixed size of what a norm divides by:

- A matrix that reads it through a norm of scale g reads `x . u_i` from the stream along `r_i = C (g * u_i)`, with C the
  centring of a LayerNorm (none in front of it: `r_i = u_i`).
- A matrix that writes to it writes along `w_i = v_i`, or `h * v_i` where a norm of scale h stands behind it.

Between the two heads' sides of one head, Q and K meet in `v_i . v_j` (what the score is made of, without positions and
norms on queries and keys), and V and O in `v_i . u_j`.

| relation | what is compared | with |
|---|---|---|
| reads alike | r_i | r_j of the other matrices that read the stream |
| writes alike | w_i | w_j of the other matrices that write to it |
| written before | r_i | w_j of the matrices that write before it reads |
| read after | w_i | r_j of the matrices that read after it writes |
| meets in the head | v_i (of O: u_i) | the other side of the head |

Of N random directions in d dimensions the largest |cosine| has the median t with `F(t)^N = 1/2`, where F is the
distribution of the |cosine| of one, the square root of a Beta(1/2, (d - 1) / 2): the level of chance. Real directions
are not spread evenly, so that a cosine near it means nothing, and one above it may still be common.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.keys import Kind, MatrixKey
from explorer.core.progress import Progress
from explorer.core.records import Record
from explorer.models import View
from explorer.models.matrices import heads, norm_of
from explorer.models.norms import READERS, norms
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition

Relation = Literal["reads alike", "writes alike", "written before", "read after", "meets in the head"]
# In which order the matrices of a block read and write; where attention and MLP stand side by side, all read first.
_ORDER = {Kind.Q: 0, Kind.K: 0, Kind.V: 0, Kind.O: 1, Kind.IN: 2, Kind.GATE: 2, Kind.OUT: 3}
_SIDE_BY_SIDE = {kind: int(kind not in READERS) for kind in Kind}


@dataclass(frozen=True)
class Alike(Record):
    """A direction of another matrix, and the cosine between the two."""

    matrix: str
    index: int
    cosine: float


@dataclass(frozen=True)
class SimilarDirections(Record):
    """The directions that stand in one relation to a direction.

    Attributes:
        relation: which one; see `explorer.spectra.similar`.
        compared: how many directions were compared.
        chance: the largest |cosine| that as many random directions have, in the median.
        nearest: those with the largest |cosine|.
    """

    relation: Relation
    compared: int
    chance: float
    nearest: tuple[Alike, ...]


def similar_directions(
    view: View,
    svds: SvdCache,
    key: MatrixKey,
    *,
    index: int,
    among: Sequence[MatrixKey],
    count: int,
    progress: Progress | None = None,
) -> tuple[SimilarDirections, ...]:
    """The directions of other matrices that are most like one, relation by relation.

    Args:
        view: of the model; only the unpruned weights count.
        svds: decompositions.
        key: the matrix, per head or stacked.
        index: of the direction.
        among: the matrices whose directions are compared, its own among them or not.
        count: how many of each relation.
        progress: told (done, total) while matrices are decomposed.
    """
    others = [one for one in among if one.stacked != key.stacked or (key.head is not None and one.head is not None)]
    others = [one for one in others if one != key]
    if missing := svds.missing(view, [key, *others]):
        svds.get_many(view, missing, progress)
    own = svds.get(view, key)
    found = []
    for relation, chosen, mine, theirs in _relations(view, key, own, others=others):
        vector = mine[:, index]
        if not chosen or float(torch.linalg.vector_norm(vector)) == 0:
            continue
        compared = [(one, theirs(one, svds.get(view, one))) for one in chosen]
        found.append(_nearest(relation, vector, compared, count=count))
    return tuple(found)


def chance_cosine(d: int, count: int) -> float:
    """The median of the largest |cosine| between a direction and so many random ones in d dimensions."""
    from scipy.special import betaincinv  # slow to import, and few commands ask for it

    return 1.0 if d < 2 else math.sqrt(float(betaincinv(0.5, (d - 1) / 2, 2.0 ** (-1.0 / count))))


def stream_directions(view: View, key: MatrixKey, svd: Decomposition) -> Float[Tensor, "d_model r"]:
    """How the directions of a matrix lie in the residual stream: r_i of one that reads it, w_i of one that writes."""
    placed = norms(view.model.architecture, view.bridge.original_model.config)
    reads = key.kind in READERS
    vectors = (svd.u if reads else svd.vh.T).double()
    if placed.post:
        return vectors
    norm = norm_of(view, key.layer, placed.before(key.kind) if reads else placed.after(key.kind))
    scale = getattr(norm, "weight", None)
    if scale is not None:
        vectors = (scale.detach().double().cpu() + placed.offset)[:, None] * vectors
    return vectors - vectors.mean(dim=0) if reads and placed.centred and norm is not None else vectors


_Vectors = Callable[[MatrixKey, Decomposition], Float[Tensor, "d n"]]


def _relations(
    view: View, key: MatrixKey, own: Decomposition, others: Sequence[MatrixKey]
) -> Iterator[tuple[Relation, list[MatrixKey], Float[Tensor, "d r"], _Vectors]]:
    """Each relation with the matrices that may stand in it, the vectors of one's own and how to get those of others."""

    def stream(one: MatrixKey, svd: Decomposition) -> Tensor:
        return stream_directions(view, one, svd)

    reads = key.kind in READERS
    mine, place = stream(key, own), _places(view)
    readers = [one for one in others if one.kind in READERS]
    writers = [one for one in others if one.kind not in READERS]
    yield "reads alike" if reads else "writes alike", readers if reads else writers, mine, stream
    if reads:
        yield "written before", [one for one in writers if place(one) < place(key)], mine, stream
    else:
        yield "read after", [one for one in readers if place(one) > place(key)], mine, stream
    if key.head is not None:
        inner = _inner(key, own)
        yield "meets in the head", [one for one in others if _meets(view, key, one)], inner, _inner


def _places(view: View) -> Callable[[MatrixKey], tuple[int, int]]:
    """Where a matrix stands in the order in which the stream is read and written."""
    config = view.bridge.original_model.config
    placed = norms(view.model.architecture, config)
    shared = placed.attention is not None and placed.attention == placed.mlp
    beside = shared or any(bool(getattr(config, name, False)) for name in ("use_parallel_residual", "parallel_attn"))
    order = _SIDE_BY_SIDE if beside else _ORDER
    return lambda key: (key.layer, order[key.kind])


def _inner(key: MatrixKey, svd: Decomposition) -> Float[Tensor, "d_head r"]:
    """How the directions of a head's matrix lie inside the head."""
    return (svd.u if key.kind is Kind.O else svd.vh.T).double()


def _meets(view: View, key: MatrixKey, other: MatrixKey) -> bool:
    """Whether two matrices are the two sides of one head: Q and K, or V and O."""
    if key.layer != other.layer or {key.kind, other.kind} not in ({Kind.Q, Kind.K}, {Kind.V, Kind.O}):
        return False
    (query,) = (one for one in (key, other) if one.kind in (Kind.Q, Kind.O))
    (shared,) = (one for one in (key, other) if one.kind in (Kind.K, Kind.V))
    if query.head is None or shared.head is None:
        return False
    return query.head * heads(view, shared.kind) // heads(view, query.kind) == shared.head


def _nearest(
    relation: Relation, vector: Float[Tensor, " d"], others: Sequence[tuple[MatrixKey, Tensor]], count: int
) -> SimilarDirections:
    cosines = [_cosines(vector, vectors) for _, vectors in others]
    every = torch.cat(cosines)
    names = [(str(one), i) for (one, _), some in zip(others, cosines, strict=True) for i in range(len(some))]
    order: list[int] = every.abs().argsort(descending=True, stable=True)[:count].tolist()
    return SimilarDirections(
        relation,
        compared=len(names),
        chance=chance_cosine(len(vector), len(names)),
        nearest=tuple(Alike(names[place][0], names[place][1], cosine=float(every[place])) for place in order),
    )


def _cosines(vector: Float[Tensor, " d"], vectors: Float[Tensor, "d n"]) -> Float[Tensor, " n"]:
    """Zero for a vector of no length."""
    found: Tensor = torch.nn.functional.normalize(vectors, dim=0).T @ torch.nn.functional.normalize(vector, dim=0)
    return found
