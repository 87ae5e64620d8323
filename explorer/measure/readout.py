"""Which tokens a singular vector reads or writes most, for vectors that live in the residual stream.

Q, K, V, IN and GATE read the stream: their u is a direction in it, and so are both sides of QK and the u of OV. O, OUT
and OV write to it: their v is one.

- **Reads.** A token's reading is `n(e) . u`, with e its embedding (as the first block gets it, without position) and n
  the layer's own norm in front of the matrix: what the singular value would be given if the stream held this token and
  nothing else. True of the first layer; further up the stream holds more.
- **Writes.** A token's writing is its logit from a stream that points along v and holds nothing else,
  `W_U (n(v) - n(-v)) / 2`, with n the final norm: its scale, and its centring if it is a LayerNorm; shifts and the
  unembedding's bias cancel, and the length of v does not matter. Where a norm stands between the matrix and the stream
  (Gemma 2 and 3, OLMo 2), v passes it first. Later layers are left out, and soft caps, which keep the order.

Models whose stream itself passes through norms (OPT before its release with norms in front) are read without these.

A vector and its negative carry the same singular value, so both ends of the scale count. These are labels to look at,
not effects: show them beside the exact effect of removing the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import MatrixError
from explorer.core.keys import AnyKey, CircuitKey, Kind
from explorer.measure.tokens import known_rows, token_texts
from explorer.models import View
from explorer.models.matrices import norm_of
from explorer.models.norms import READERS, Norms, norms
from explorer.spectra.svd import Decomposition

Side = Literal["reads", "writes"]
_CHUNK = 8192  # tokens at a time: embeddings of a large vocabulary are not copied whole


@dataclass(frozen=True)
class Token:
    """One token of a read-out: its id, its text as the tokenizer has it, and its reading or writing."""

    id: int
    text: str
    value: float


@dataclass(frozen=True)
class Readout:
    """The extreme tokens of one singular vector.

    Attributes:
        index: which singular value.
        vector: `u` or `v`.
        kind: the matrix that it belongs to; for QK, Q on the u side and K on the v side.
        side: whether the vector reads the residual stream or writes to it.
        plus: tokens with the largest values, descending.
        minus: tokens with the smallest values, ascending.
    """

    index: int
    vector: Literal["u", "v"]
    kind: Kind
    side: Side
    plus: tuple[Token, ...]
    minus: tuple[Token, ...]


def sides(key: AnyKey) -> tuple[tuple[Literal["u", "v"], Kind], ...]:
    """The singular vectors of a matrix that live in the residual stream, with the kind that reads or writes there."""
    if isinstance(key, CircuitKey):
        first, second = key.circuit.kinds
        return ("u", first), ("v", second)
    return (("u", key.kind),) if key.kind in READERS else (("v", key.kind),)


def readouts(
    view: View, key: AnyKey, decomposition: Decomposition, indices: Sequence[int], k: int = 10
) -> list[Readout]:
    """The k tokens at both ends of each residual-stream vector of some singular values, value by value.

    The view is only read; its weights may carry any mask.

    Raises:
        MatrixError: an index beyond the rank.
    """
    for index in indices:
        if not 0 <= index < decomposition.rank:
            raise MatrixError(f"{key} has singular values 0 to {decomposition.rank - 1}, not {index}: choose another.")
    found: list[list[Readout]] = [[] for _ in indices]
    for vector, kind in sides(key):
        reads = kind in READERS
        vectors = (decomposition.left(indices) if vector == "u" else decomposition.right(indices).T).to(view.device)
        with view.lock, torch.no_grad():
            values = (_readings if reads else _writings)(view, key.layer, kind, vectors)
        for column, index in enumerate(indices):
            ends = [_extreme(view, values[:, column], k, largest=largest) for largest in (True, False)]
            side: Side = "reads" if reads else "writes"
            found[column].append(Readout(index, vector, kind, side=side, plus=ends[0], minus=ends[1]))
    return [one for group in found for one in group]


def _readings(view: View, layer: int, kind: Kind, u: Float[Tensor, "d_model n"]) -> Float[Tensor, "token n"]:
    """Per token, what its embedding gives along each direction through the layer's own norm."""
    norm = norm_of(view, layer, _norms(view).before(kind))
    normed = ((e if norm is None else _through(norm, e)).to(u.dtype) for e in _embeddings(view))
    rows = [e @ u.to(e.device) for e in normed]
    return torch.cat([row.float().cpu() for row in rows])


def _writings(view: View, layer: int, kind: Kind, v: Float[Tensor, "d_model n"]) -> Float[Tensor, "token n"]:
    """Per token, its logit from a stream that points along each direction."""
    bridge = view.bridge
    x = v.T[None].to(_embedding(view).weight.dtype)
    behind = norm_of(view, layer, _norms(view).after(kind))
    for step in (behind, getattr(bridge, "ln_final", None), getattr(bridge, "project_out", None)):
        if step is not None:
            x = (_through(step, x) - _through(step, -x)) / 2
    logits: Tensor = _through(bridge.unembed, x) - _through(bridge.unembed, torch.zeros_like(x))
    return logits[0].T.float().cpu()


def _embeddings(view: View) -> Iterator[Float[Tensor, "token d_model"]]:
    """The embedding of every token as the first block gets it, without position, some tokens at a time."""
    embedding, base = _embedding(view), view.bridge.original_model.base_model
    base = getattr(base, "decoder", base)  # OPT
    steps = [getattr(base, name, None) for name in ("word_embeddings_layernorm", "project_in")]  # BLOOM, OPT
    count = int(embedding.weight.shape[0])
    for start in range(0, count, _CHUNK):
        ids = torch.arange(start, min(start + _CHUNK, count), device=view.device)
        e = embedding(ids[None])
        for step in steps:
            e = e if step is None else _through(step, e)
        yield e[0]


def _through(module: Any, x: Tensor) -> Tensor:
    """What a module makes of a vector, wherever its weights lie."""
    weight = next(module.parameters(), x)
    made: Tensor = module(x.to(weight.device))
    return made


def _extreme(view: View, values: Float[Tensor, " token"], k: int, *, largest: bool) -> tuple[Token, ...]:
    """The k tokens with the largest or smallest values.

    Rows that are none of the tokenizer's, and values that are not finite, are left out.
    """
    known = (known_rows(view.model.tokenizer, len(values)) & values.isfinite()).nonzero()[:, 0]
    top = values[known].topk(min(k, len(known)), largest=largest)
    ids = known[top.indices].tolist()
    texts = token_texts(view.model.tokenizer, ids)
    return tuple(Token(*one) for one in zip(ids, texts, top.values.tolist(), strict=True))


def _embedding(view: View) -> Any:
    return view.bridge.original_model.get_input_embeddings()


def _norms(view: View) -> Norms:
    return norms(view.model.architecture, view.bridge.original_model.config)
