"""Why a head looks there, and what it moves: both numbers as exact sums over pairs of singular directions.

For a query at one position and a key at another, with x what W_Q and W_K read there, u_i the left singular vectors of
W_Q and w_j those of W_K, and M as in `explorer.masks.head_scores`:

    score = cap(sum_ij (x_query . u_i) (u_i^T W_Q) M (w_j^T W_K)^T (x_key . w_j) + terms with biases + p)

What the head moves from the key is `a (x_key W_V + b_V) W_O` with a its attention. Along a direction g of the residual
stream it splits likewise over directions of V and O: `a (x_key . u_i) (u_i^T W_V) (w_j) (w_j^T W_O g)`.

Directions are those of the unpruned model, weights those of the view: a removed direction has a row of zeros, and what
stands in its place is in the row "frozen means". Sides may be taken apart in the directions of the head's own matrices,
of the stacked ones, or of its products QK and OV, whose pairs lie on the diagonal where no position turns and no norm
scales. Beside every pair stands its mean over the other keys that the query sees: what is the same for all of them
moves no attention. Soft caps and ALiBi are terms of their own, so that all terms add up to the model's own number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import SettingsError
from explorer.core.keys import Circuit, CircuitKey, Kind
from explorer.masks.activations import Prompt
from explorer.masks.apply import apply
from explorer.masks.head_scores import AttentionRun, HeadScores, head_scores, see
from explorer.masks.mask import Mask
from explorer.measure.generation import prompt_ids
from explorer.measure.tokens import check_rows, encode, token_texts
from explorer.models import View
from explorer.models.matrices import norm_of, parts_of, read, read_base_bias, read_bias
from explorer.models.norms import norms
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import factored, factors_of, weights_of
from explorer.tasks import AS_USUAL, Example, Framing

Directions = Literal["head", "stacked", "product"]
BIAS, FROZEN, OUTSIDE, ALIBI, CAP = "bias", "frozen means", "outside the directions", "position (ALiBi)", "soft cap"
_ROUNDING = 1e-5  # of a sum, below which what it lacks is rounding


@dataclass(frozen=True)
class HeadPlace:
    """A query head and two positions; without a key the one that the head attends to most from the query."""

    layer: int
    head: int
    query: int = -1
    key: int | None = None


@dataclass(frozen=True)
class TermSide:
    """One side of the pairs.

    Attributes:
        matrix: whose directions they are: of a matrix, or of a product.
        count: how many directions.
        further: names of the terms behind them: a bias, what stands in the place of removed values.
    """

    matrix: str
    count: int
    further: tuple[str, ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """What each row is: the index of a direction, or a name."""
        return (*map(str, range(self.count)), *self.further)


@dataclass(frozen=True)
class Pair:
    """Two terms by their places, what they add at this key, and on average at the other keys that the query sees."""

    first: int
    second: int
    here: float
    elsewhere: float


@dataclass(frozen=True)
class Further:
    """A term that is of no pair."""

    name: str
    here: float
    elsewhere: float


@dataclass(frozen=True, eq=False)
class Split:
    """A number as a sum over pairs of terms, and further terms.

    Attributes:
        first, second: the sides.
        here: what each pair adds.
        elsewhere: the same, on average over the other keys that the query sees; 0 without others.
        further: the terms that are of no pair.
        own: the number as the model has it, which all of `here` and `further` add up to.
        own_elsewhere: its mean over the other keys.
    """

    first: TermSide
    second: TermSide
    here: Float[Tensor, "first second"]
    elsewhere: Float[Tensor, "first second"]
    further: tuple[Further, ...]
    own: float
    own_elsewhere: float

    @property
    def total(self) -> float:
        """The sum of all terms."""
        return float(self.here.sum()) + sum(one.here for one in self.further)

    def pairs(self, top: int | None = None) -> list[Pair]:
        """The pairs, those first that set this key furthest apart from the others; without others the largest."""
        columns, here, elsewhere = self.here.shape[1], self.here.flatten(), self.elsewhere.flatten()
        order = (here - elsewhere).abs().argsort(descending=True, stable=True)[:top]
        return [Pair(i // columns, i % columns, float(here[i]), elsewhere=float(elsewhere[i])) for i in order.tolist()]


@dataclass(frozen=True, eq=False)
class HeadSplit:
    """Why a head looks from one position to another, and what it moves from there.

    Attributes:
        tokens: the prompt as the tokenizer cut it.
        place: the head, the query and the key, all given and counted from 0.
        visible: positions of the keys that the query sees.
        scores: the model's own scores of these keys before softmax.
        attention: its attention to them.
        score: the score of the key.
        moved: what is moved from it, along `toward`.
        length: of what is moved from it.
        toward: text of what it is measured along.
    """

    tokens: tuple[str, ...]
    place: HeadPlace
    visible: tuple[int, ...]
    scores: tuple[float, ...]
    attention: tuple[float, ...]
    score: Split
    moved: Split
    length: float
    toward: str


def head_split(
    view: View,
    mask: Mask,
    svds: SvdCache,
    prompt: Prompt,
    *,
    place: HeadPlace,
    directions: Directions = "head",
    toward: Sequence[int] = (),
    framing: Framing = AS_USUAL,
) -> HeadSplit:
    """Split a head's score, and what it moves, under a mask; the view is left with the mask on it.

    Args:
        view: any state.
        mask: what is removed; its values are those of this model.
        svds: decompositions.
        prompt: text, or an example's prompt with what is shown before it.
        place: head and positions; negative positions count from the end.
        directions: of the head's own matrices, of the stacked ones, or of its products.
        toward: ids of one token, whose logit what is moved adds to directly (through the norms as they are on this
            prompt, past all later blocks, before a soft cap), or of two, for the difference; none for its own length.
        framing: what stands around the prompt.

    Raises:
        TaskError: the prompt is empty, longer than the model reads, or cannot be put into the framing.
        SettingsError: no such head or position, a key that the query does not see, or a logit where no norm is final.
        MatrixError: a model in the basis `delta`, or values that the model does not have.
        MaskError: another model's mask.
    """
    ids = prompt_ids(view, prompt, framing)
    place = _checked(view, place, len(ids))
    qk, ov = (CircuitKey(place.layer, circuit, place.head) for circuit in (Circuit.QK, Circuit.OV))
    factors_of(view, qk)
    with view.lock:
        apply(view, mask, svds)
        seen = see(view, ids, place.layer)
        scored = head_scores(view, seen, place.layer, head=place.head, query=place.query)
        key = _key(place, scored)
        sides = {kind: _Reader(view, svds, one, directions=directions, kind=kind)
                 for one in (qk, ov) for kind in one.circuit.kinds if kind is not Kind.O}  # fmt: skip
        score = _score(sides[Kind.Q], sides[Kind.K], scored, seen=seen, query=place.query, key=key)
        writer = _Writer(view, svds, ov, directions=directions)
        g, length = _along(view, writer, sides[Kind.V], seen=seen, scored=scored, place=place, key=key, toward=toward)
        moved = _moved(sides[Kind.V], writer, scored, seen=seen, key=key, g=g)
    return HeadSplit(
        tokens=tuple(token_texts(view.model.tokenizer, ids)),
        place=HeadPlace(place.layer, place.head, place.query, key=key),
        visible=scored.visible,
        scores=tuple(scored.own.tolist()),
        attention=tuple(scored.attention.tolist()),
        score=score,
        moved=moved,
        length=length,
        toward=_named(view, toward),
    )


def first_tokens(view: View, prompt: Prompt, texts: Sequence[str], framing: Framing = AS_USUAL) -> tuple[int, ...]:
    """The first token of each text as it follows the prompt, for `toward`.

    Raises:
        TaskError: a text that is no token, or one that the model has no unembedding of.
    """
    example = Example(prompt, "") if isinstance(prompt, str) else prompt
    found = [encode(view.model.tokenizer, example.answered(text), framing).answer[0] for text in texts]
    check_rows(view.model, found, ", ".join(texts))
    return tuple(found)


def _checked(view: View, place: HeadPlace, length: int) -> HeadPlace:
    """A place with positions counted from 0; refuses what the model or the prompt does not have."""
    layers, heads = int(view.config.n_layers), int(view.config.n_heads)
    if not (0 <= place.layer < layers and 0 <= place.head < heads):
        raise SettingsError(
            f"L{place.layer}.H{place.head} is no head: the model has layers 0 to {layers - 1} and query heads 0 to "
            f"{heads - 1}."
        )
    for name, position in (("query", place.query), ("key", place.key)):
        if position is not None and not -length <= position < length:
            raise SettingsError(f"the {name} {position} is no position: the prompt has tokens 0 to {length - 1}.")
    query = place.query % length
    return HeadPlace(place.layer, place.head, query, key=None if place.key is None else place.key % length)


def _key(place: HeadPlace, scored: HeadScores) -> int:
    if place.key is None:
        return scored.visible[int(scored.attention.argmax())]
    if place.key not in scored.visible:
        raise SettingsError(
            f"token {place.query} does not see token {place.key}: give a key from {scored.visible[0]} to "
            f"{scored.visible[-1]}."
        )
    return place.key


class _Reader:
    """What Q, K or V of one head writes at a position, as rows that add up to it: one per direction, and named ones."""

    def __init__(self, view: View, svds: SvdCache, product: CircuitKey, *, directions: Directions, kind: Kind) -> None:
        first, second = factors_of(view, product)
        key = first if kind is first.kind else second
        self.name = kind.lower()
        self._W = read(view, key).detach().double().cpu()
        if directions == "product":
            found = factored(*weights_of(view, product))
            matrix, self._u = str(product), found.u if key == first else found.vh.T
        else:
            own = key if directions == "head" else key.stacked
            decomposition = svds.get(view, own)
            matrix, self._u = str(own), decomposition.left(range(decomposition.rank)).double()
        base, self._b = (
            None if b is None else b.detach().double().cpu() for b in (read_base_bias(view, key), read_bias(view, key))
        )
        constants = {} if base is None else {BIAS: base}
        frozen = None if self._b is None else self._b - (0.0 if base is None else base)
        if frozen is not None and bool(frozen.any()):
            constants[FROZEN] = frozen
        self._constants = tuple(constants.values())
        self._outside = _outside(self._W, self._u @ (self._u.T @ self._W))
        self.side = TermSide(matrix, self._u.shape[1], (*constants, *([OUTSIDE] if self._outside is not None else [])))

    def whole(self, x: Float[Tensor, "position d_model"]) -> Float[Tensor, "position d_head"]:
        """What the matrix writes at positions, from what it reads there."""
        return x @ self._W if self._b is None else x @ self._W + self._b

    def rows(self, x: Float[Tensor, "position d_model"]) -> Float[Tensor, "position term d_head"]:
        """The same as rows."""
        rows = [(x @ self._u)[:, :, None] * (self._u.T @ self._W)[None]]
        rows += [constant.expand(len(x), 1, -1) for constant in self._constants]
        rows += [] if self._outside is None else [(x @ self._outside)[:, None]]
        return torch.cat(rows, dim=1)


class _Writer:
    """What O of one head writes along a direction of the stream, as vectors on its input that add up to W_O g."""

    def __init__(self, view: View, svds: SvdCache, product: CircuitKey, directions: Directions) -> None:
        _, key = factors_of(view, product)
        self.W = read(view, key).detach().double().cpu()
        self._product = directions == "product"
        if self._product:
            self._whole, self._rows = self.W, slice(None)
            self._matrix, self._u = str(product), factored(*weights_of(view, product)).vh.T
        else:
            own = key if directions == "head" else key.stacked
            decomposition = svds.get(view, own)
            self._matrix, self._u = str(own), decomposition.left(range(decomposition.rank)).double()
            self._whole = read(view, own).detach().double().cpu()
            self._rows = slice(None) if own == key else parts_of(view, key)[0]

        inside = self.W @ self._u @ self._u.T if self._product else self._u[self._rows] @ (self._u.T @ self._whole)
        self._outside = _outside(self.W, inside)
        self.side = TermSide(self._matrix, self._u.shape[1], () if self._outside is None else (OUTSIDE,))

    def vectors(self, g: Float[Tensor, " d_model"]) -> Float[Tensor, "term d_head"]:
        """A vector on the head's values for each term."""
        if self._product:
            found = (self.W @ self._u).T * (self._u.T @ g)[:, None]
        else:
            found = self._u[self._rows].T * (self._u.T @ (self._whole @ g))[:, None]
        return found if self._outside is None else torch.cat([found, (self._outside @ g)[None]])


def _outside(W: Float[Tensor, "d_in d_out"], inside: Float[Tensor, "d_in d_out"]) -> Tensor | None:
    """What the directions leave out of a matrix: something only if it is under a mask of other directions."""
    rest = W - inside
    return rest if float(rest.norm()) > _ROUNDING * float(W.norm()) else None


def _score(queries: _Reader, keys: _Reader, scored: HeadScores, seen: AttentionRun, *, query: int, key: int) -> Split:
    visible = list(scored.visible)
    q = queries.rows(seen.read["q"][[query]])[0]
    k = keys.rows(seen.read["k"][visible])
    tables = (q @ form @ one.T for form, one in zip(scored.forms, k, strict=True))
    before = torch.einsum("td,kde,kse->k", q, scored.forms, k) + scored.position
    caps = torch.tensor([scored.capped(one) - one for one in before.tolist()]).double()
    named = {ALIBI: scored.position} if bool(scored.position.any()) else {}
    named |= {} if scored.cap is None else {CAP: caps}
    return _split((queries.side, keys.side), tables, named, own=scored.own, at=visible.index(key))


def _moved(values: _Reader, writer: _Writer, scored: HeadScores, seen: AttentionRun, *, key: int, g: Tensor) -> Split:
    visible = list(scored.visible)
    v = values.rows(seen.read["v"][visible])
    vectors = writer.vectors(g)
    tables = (float(a) * (one @ vectors.T) for a, one in zip(scored.attention, v, strict=True))
    own = scored.attention * (values.whole(seen.read["v"][visible]) @ (writer.W @ g))
    return _split((values.side, writer.side), tables, {}, own=own, at=visible.index(key))


def _split(
    sides: tuple[TermSide, TermSide],
    tables: Iterable[Float[Tensor, "first second"]],
    named: dict[str, Float[Tensor, " key"]],
    *,
    own: Float[Tensor, " key"],
    at: int,
) -> Split:
    """The split at one of the keys, and its mean over the others."""
    shape = tuple(len(side.terms) for side in sides)
    here, others = torch.zeros(shape).double(), torch.zeros(shape).double()
    for place, table in enumerate(tables):
        if place == at:
            here = table
        else:
            others += table / (len(own) - 1)

    def elsewhere(values: Tensor) -> float:
        return float(values.sum() - values[at]) / (len(own) - 1) if len(own) > 1 else 0.0

    further = tuple(Further(name, float(values[at]), elsewhere(values)) for name, values in named.items())
    return Split(*sides, here, others, further=further, own=float(own[at]), own_elsewhere=elsewhere(own))


def _along(
    view: View,
    writer: _Writer,
    values: _Reader,
    seen: AttentionRun,
    scored: HeadScores,
    *,
    place: HeadPlace,
    key: int,
    toward: Sequence[int],
) -> tuple[Float[Tensor, " d_model"], float]:
    """The direction of the stream that what is moved is measured along, and the length of what is moved."""
    attention = float(scored.attention[scored.visible.index(key)])
    wrote = attention * (values.whole(seen.read["v"][[key]])[0] @ writer.W)
    length = float(wrote.norm())
    if not toward:
        return wrote / length if length else wrote, length
    own = norms(view.model.architecture, view.bridge.original_model.config)
    if own.post:
        raise SettingsError(
            f"{view.model.source.name} norms the stream itself, so that nothing reaches a logit directly: leave out "
            "the token."
        )
    unembedding = view.bridge.original_model.get_output_embeddings().weight.detach()
    g = unembedding[toward[0]].double().cpu()
    for token in toward[1:]:
        g = g - unembedding[token].double().cpu()
    g = _back(getattr(view.bridge, "ln_final", None), seen.final[place.query], g)
    return _back(norm_of(view, place.layer, own.after_attention), seen.wrote[place.query], g), length


def _back(norm: Any, x: Float[Tensor, " d_model"], g: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """The direction in front of a norm that a direction behind it measures, with the scale that x has."""
    if norm is None:
        return g
    with torch.no_grad():
        steps = torch.ones_like(x)
        steps[1::2] = -1.0
        steps -= steps.mean()
        shift, probe, level, y = (
            norm(one[None, None])[0, 0].double().cpu() for one in (torch.zeros_like(x), steps, torch.ones_like(x), x)
        )
    weight = (probe - shift) / steps.double().cpu()
    centred = float((level - shift).abs().max()) < 1e-3 * float((probe - shift).abs().max())
    read = x.double().cpu()
    scaled = weight * (read - read.mean() if centred else read)
    back: Tensor = weight * g * float(scaled @ (y - shift) / scaled.square().sum().clamp_min(1e-300))
    return back - back.mean() if centred else back


def _named(view: View, toward: Sequence[int]) -> str:
    texts = [repr(text) for text in token_texts(view.model.tokenizer, list(toward))]
    return "what is moved itself" if not texts else "the logit of " + " minus that of ".join(texts)
