"""Where singular directions are active: the tokens of a corpus at which `x . u_i` is largest and smallest.

For matrix `W = sum_i s_i u_i v_i^T` that reads `x_n` at token n, direction i reads `x_n . u_i` there and writes
`(x_n . u_i) s_i` along v_i. One pass over the corpus serves all matrices:

1. Hooks project what each matrix reads onto all of its u_i, some tokens at a time.
2. Of each direction the `TOP` largest and smallest values are kept with where they were, among tokens that are `fresh`
   (`explorer.measure.corpora`), and the sums behind its mean and standard deviation over all tokens.
3. The values at a random sample of all tokens, the same for every direction, give its quantiles.

Per direction that takes `16 TOP + 16` bytes, and 4 for each token of the sample, which is of `SAMPLE` tokens or of as
many as take `SAMPLE_BYTES`; beside it stand the u_i (of a large model only those of the matrix at work) and what
`TOKENS_AT_ONCE` tokens give. Nothing grows with the corpus but its token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.core.errors import NotFiniteError, SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part, track
from explorer.core.records import Record
from explorer.measure.corpora import Corpus, reads_embeddings
from explorer.measure.tokens import token_texts
from explorer.models import View
from explorer.models.matrices import input_hook, parts_of, read
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition

TOP = 16  # contexts kept at either end
SAMPLE, SAMPLE_BYTES = 512, 128 << 20
QUANTILES = 33  # from the smallest to the largest value, at equal distances of probability
TOKENS_AT_ONCE = 2048
BEFORE, AFTER = 24, 8  # tokens shown around one
RANDOM = 4
_SEED = 0


@dataclass(frozen=True, eq=False)
class MatrixContexts:
    """Where the directions of one matrix are active in a corpus.

    Attributes:
        largest, smallest: values of x . u_i, the most extreme first, of tokens that are fresh; there are fewer than
            `TOP` in a corpus of fewer.
        largest_at, smallest_at: the places of their tokens in the corpus.
        mean, deviation: over all tokens.
        quantiles: from the smallest to the largest value; all but these two from a sample of the tokens.
    """

    largest: Float[Tensor, "r top"]
    largest_at: Int[Tensor, "r top"]
    smallest: Float[Tensor, "r top"]
    smallest_at: Int[Tensor, "r top"]
    mean: Float[Tensor, " r"]
    deviation: Float[Tensor, " r"]
    quantiles: Float[Tensor, "r quantile"]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True)
class Context(Record):
    """A token at which a direction was looked at, with its surroundings.

    Attributes:
        value: x . u_i there.
        written: (x . u_i) s_i, along v_i.
        tokens: the tokens around it, as the tokenizer cut them.
        values: x . u_i at each of them.
        at: which of them it is.
        begins: whether they begin where the sequence begins.
    """

    value: float
    written: float
    tokens: tuple[str, ...]
    values: tuple[float, ...]
    at: int
    begins: bool


@dataclass(frozen=True)
class DirectionContexts(Record):
    """Where one direction is active in a corpus.

    Attributes:
        corpus: what was read: a task, or a text.
        digest: of its tokens.
        sequences, tokens: how many it has.
        mean, deviation: of x . u_i over all tokens.
        quantiles: of x . u_i, from the smallest to the largest value at equal distances of probability.
        largest, smallest: contexts, the most extreme first; tokens with the same tokens before them are one.
        random: contexts drawn at random among these.
    """

    corpus: str
    digest: str
    sequences: int
    tokens: int
    mean: float
    deviation: float
    quantiles: tuple[float, ...]
    largest: tuple[Context, ...]
    smallest: tuple[Context, ...]
    random: tuple[Context, ...]


def contexts(
    view: View, corpus: Corpus, svds: SvdCache, keys: Sequence[MatrixKey], progress: Progress | None = None
) -> dict[MatrixKey, MatrixContexts]:
    """Where all directions of some matrices are active, on the view as it is now; one pass over the corpus.

    Raises:
        SettingsError: an empty corpus.
        NotFiniteError: the model computes numbers that are not finite on it.
    """
    if not corpus.tokens:
        raise SettingsError("there are no tokens to look for contexts in: give a text, or a task with examples.")
    if missing := svds.missing(view, keys):
        svds.get_many(view, missing, part(progress, 0.0, 0.5))
        progress = part(progress, 0.5, 1.0)
    with view.lock, torch.inference_mode():
        found = _figures(view, svds, keys, corpus=corpus)
        groups = list(_groups(view, corpus))
        for group in track(groups, progress):
            _run(view, group, found)
        return {key: one for figures in found.values() for key, one in figures.contexts(corpus.tokens)}


def direction_contexts(
    view: View, corpus: Corpus, found: MatrixContexts, key: MatrixKey, *, svd: Decomposition, index: int, count: int
) -> DirectionContexts:
    """The contexts of one direction with the tokens around them and the value at each; runs these sequences again.

    Args:
        view: as it was when `found` was made.
        corpus: in which it was found.
        found: where the matrix's directions are active.
        key: the matrix.
        svd: its decomposition.
        index: which direction.
        count: contexts at either end, `TOP` at most.
    """
    ends = [getattr(found, name)[index, :count].tolist() for name in ("largest_at", "smallest_at")]
    drawn = _drawn(corpus.fresh(view, key))
    places = list(dict.fromkeys([*ends[0], *ends[1], *drawn]))
    sigma = float(svd.s[index])
    shown = dict(
        zip(places, _contexts(view, corpus, places, key=key, u=svd.left([index])[:, 0], sigma=sigma), strict=True)
    )
    largest, smallest, random = (tuple(shown[place] for place in some) for some in (*ends, drawn))
    return DirectionContexts(
        corpus=corpus.name, digest=corpus.digest, sequences=len(corpus.sequences), tokens=corpus.tokens,
        mean=float(found.mean[index]), deviation=float(found.deviation[index]),
        quantiles=tuple(found.quantiles[index].tolist()), largest=largest, smallest=smallest, random=random,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Group:
    """Sequences that run together, padded on the right.

    Attributes:
        tokens: ids.
        real: which of them are no padding.
        places: of the real ones, row by row, in the corpus.
    """

    tokens: Int[Tensor, "sequence position"]
    real: Bool[Tensor, "sequence position"]
    places: Int[Tensor, " token"]


class _Figures:
    """Running figures of all directions of the matrices that lie in one stacked matrix.

    Args:
        view: the model's.
        svds: decompositions.
        keys: the matrices.
        fresh: which tokens of the corpus are.
        slots: for each token of the corpus its place in the sample, -1 for those that are not in it.
    """

    def __init__(self, view: View, svds: SvdCache, keys: Sequence[MatrixKey], *, fresh: Tensor, slots: Tensor) -> None:
        self.keys, self._view, self._svds = tuple(keys), view, svds
        self._device = read(view, keys[0]).device
        self._fresh, self._slots = fresh.to(self._device), slots.to(self._device)
        self._held = None if view.model.is_large else [self._part(key) for key in keys]
        self.ranks = [svds.get(view, key).rank for key in keys]
        self._ends: list[tuple[Tensor, Tensor]] | None = None
        self._sums = torch.zeros(2, sum(self.ranks), dtype=torch.float64)
        self._sample = torch.empty(sum(self.ranks), int((slots >= 0).sum()))

    def add(self, x: Float[Tensor, "token d_in"], places: Int[Tensor, " token"]) -> None:
        """Take what the stacked matrix reads at some tokens."""
        parts = [self._part(key) for key in self.keys] if self._held is None else self._held
        wide = torch.promote_types(x.dtype, torch.float32)
        values = torch.cat([u.to(wide) @ x[:, rows].to(wide).T for rows, u in parts])
        places = places.to(self._device)
        self._sums[0] += values.sum(dim=1, dtype=torch.float64).cpu()
        self._sums[1] += values.square().sum(dim=1, dtype=torch.float64).cpu()
        slots = self._slots[places]
        self._sample[:, slots[slots >= 0].cpu()] = values[:, slots >= 0].to(self._sample.dtype).cpu()
        fresh = self._fresh[places]
        self._merge(values[:, fresh], places[fresh])

    def contexts(self, tokens: int) -> Iterator[tuple[MatrixKey, MatrixContexts]]:
        """What was found, matrix by matrix."""
        if not bool(self._sums.isfinite().all()):
            raise NotFiniteError(
                f"what {self.keys[0].stacked} reads in this text is not finite: load the model in float32, or give "
                "another text."
            )
        assert self._ends is not None
        mean = self._sums[0] / tokens
        deviation = (self._sums[1] / tokens - mean.square()).clamp_min(0.0).sqrt()
        (largest, largest_at), (smallest, smallest_at) = ((one.cpu(), at.cpu().int()) for one, at in self._ends)
        probabilities = torch.linspace(0.0, 1.0, QUANTILES, dtype=torch.float64)
        quantiles = torch.quantile(self._sample.double(), probabilities, dim=1).T.contiguous().float()
        # The ends are exact: every token has the value of one that is fresh.
        quantiles[:, 0], quantiles[:, -1] = smallest[:, 0], largest[:, 0]
        whole = MatrixContexts(
            largest, largest_at, smallest, smallest_at=smallest_at, mean=mean, deviation=deviation, quantiles=quantiles
        )
        start = 0
        for key, rank in zip(self.keys, self.ranks, strict=True):
            rows = slice(start, start + rank)
            yield key, MatrixContexts(**{name: one[rows].contiguous() for name, one in whole.tensors().items()})
            start += rank

    def _part(self, key: MatrixKey) -> tuple[slice, Float[Tensor, "r d_in"]]:
        return parts_of(self._view, key)[0], self._svds.get(self._view, key).u.T.contiguous().to(self._device)

    def _merge(self, values: Float[Tensor, "r token"], places: Int[Tensor, " token"]) -> None:
        """Keep the most extreme values of those so far and of some more."""
        if not len(places):
            return
        merged = []
        for end, largest in enumerate((True, False)):
            top = values.topk(min(TOP, len(places)), dim=1, largest=largest)
            best, at = top.values, places[top.indices]
            if self._ends is not None:
                both, every = (torch.cat(two, dim=1) for two in zip(self._ends[end], (best, at), strict=True))
                top = both.topk(min(TOP, both.shape[1]), dim=1, largest=largest)
                best, at = top.values, every.gather(1, top.indices)
            merged.append((best, at))
        self._ends = merged


def _figures(view: View, svds: SvdCache, keys: Sequence[MatrixKey], *, corpus: Corpus) -> dict[MatrixKey, _Figures]:
    """Running figures of each stacked matrix that holds some of the matrices."""
    directions = sum(min(read(view, key).shape) for key in keys)
    size = max(1, min(SAMPLE, SAMPLE_BYTES // (4 * directions), corpus.tokens))
    slots = torch.full((corpus.tokens,), -1)
    slots[_permuted(corpus.tokens)[:size]] = torch.arange(size)
    sites: dict[MatrixKey, list[MatrixKey]] = {}
    for key in keys:
        sites.setdefault(key.stacked, []).append(key)
    sorts = {reads_embeddings(site): site for site in sites}
    fresh = {sort: corpus.fresh(view, site) for sort, site in sorts.items()}
    return {
        site: _Figures(view, svds, some, fresh=fresh[reads_embeddings(site)], slots=slots)
        for site, some in sites.items()
    }


def _permuted(count: int) -> Int[Tensor, " token"]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(_SEED))


def _drawn(fresh: Bool[Tensor, " token"]) -> list[int]:
    """Some fresh tokens at random."""
    places = fresh.nonzero()[:, 0]
    drawn: list[int] = places[_permuted(len(places))[:RANDOM]].tolist()
    return drawn


def _groups(view: View, corpus: Corpus) -> Iterator[_Group]:
    """The sequences in groups of about one length and of `TOKENS_AT_ONCE` tokens at most, or alone."""
    lengths = [len(one) for one in corpus.sequences]
    turned = [view.side(length) for length in lengths]
    order = sorted(range(len(lengths)), key=lambda place: (turned[place], lengths[place]))
    cut: list[int] = []
    for place in order:
        if cut and (turned[place] != turned[cut[0]] or (len(cut) + 1) * lengths[place] > TOKENS_AT_ONCE):
            yield _group(corpus, cut)
            cut = []
        cut.append(place)
    if cut:
        yield _group(corpus, cut)


def _group(corpus: Corpus, chosen: Sequence[int]) -> _Group:
    rows = [corpus.sequences[place] for place in chosen]
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    real = torch.arange(width)[None] < torch.tensor([[len(row)] for row in rows])
    starts = torch.tensor([corpus.starts[place] for place in chosen])
    return _Group(tokens, real, (starts[:, None] + torch.arange(width)[None])[real])


def _run(view: View, group: _Group, found: Mapping[MatrixKey, _Figures]) -> None:
    def take(x: Tensor, hook: Any, site: MatrixKey) -> None:
        found[site].add(x.detach().flatten(2)[group.real.to(x.device)], group.places)

    def of(site: MatrixKey) -> Any:
        return lambda x, hook: take(x, hook, site)

    hooks = [(input_hook(site), of(site)) for site in found]
    tokens = group.tokens.to(view.device)
    with view.bridge.hooks(fwd_hooks=hooks):
        view.logits(tokens, keep=torch.tensor([tokens.shape[1] - 1], device=view.device))


class _Enough(Exception):
    """Ends a forward pass: what is wanted has been read."""


def _contexts(
    view: View, corpus: Corpus, places: Sequence[int], *, key: MatrixKey, u: Float[Tensor, " d_in"], sigma: float
) -> list[Context]:
    """The tokens around some places, with x . u at each."""
    where = [corpus.locate(place) for place in places]
    ends = [min(at + 1 + AFTER, len(corpus.sequences[number])) for number, at in where]
    cut = Corpus(
        corpus.name, tuple(corpus.sequences[number][:end] for (number, _), end in zip(where, ends, strict=True))
    )
    values = _values(view, cut, key=key, u=u)
    tokenizer, found = view.model.tokenizer, []
    for number, ((_, at), ids) in enumerate(zip(where, cut.sequences, strict=True)):
        start = max(0, at - BEFORE)
        own = values[cut.starts[number] + start : cut.starts[number + 1]].tolist()
        found.append(
            Context(
                value=own[at - start],
                written=own[at - start] * sigma,
                tokens=tuple(token_texts(tokenizer, ids[start:])),
                values=tuple(own),
                at=at - start,
                begins=start == 0,
            )
        )
    return found


def _values(view: View, corpus: Corpus, *, key: MatrixKey, u: Float[Tensor, " d_in"]) -> Float[Tensor, " token"]:
    """The products x . u at every token of a corpus, for what one matrix reads; no block after its own is run."""
    rows = parts_of(view, key)[0]
    found = torch.empty(corpus.tokens)

    def take(x: Tensor, hook: Any) -> None:
        mine = x.detach().flatten(2)[group.real.to(x.device)][:, rows]
        wide = torch.promote_types(mine.dtype, torch.float32)
        found[group.places] = (mine.to(wide) @ u.to(mine.device, wide)).float().cpu()
        raise _Enough

    with view.lock, torch.inference_mode():
        for group in _groups(view, corpus):
            tokens = group.tokens.to(view.device)
            with suppress(_Enough), view.bridge.hooks(fwd_hooks=[(input_hook(key), take)]):
                view.logits(tokens, keep=torch.tensor([tokens.shape[1] - 1], device=view.device))
    return found
