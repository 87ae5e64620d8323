"""Run only what a mask changes: kept residual streams of a view, and forwards that start from them.

A mask that first touches layer l leaves the input of block l as it was. So:

1. `keep` runs the view once over some batches and keeps the residual stream at the input of every block, or, where
   memory is short, of every k-th one; what the view was then (`View.applied`) is kept with it.
2. `run_kept` finds the first layer at which the view differs now, hands the kept stream to the last kept block at or
   before it, and runs from there: the blocks, the final norm, the unembedding at the answer positions.
3. What prompts begin with in common (`explorer.measure.prefix`) is read once for all batches, from the same block on;
   the keys and values of the blocks before it are the kept ones.

Blocks that are skipped stay in the model and hand on what they are given, so that positions, rotations, masks by layer
and whatever else a family computes outside its blocks stay as they are. All of this happens on the view and ends with
the call. The embeddings still run: they are a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, track
from explorer.measure.batches import Batch, answer_logits
from explorer.measure.metrics import Outcome, outcome
from explorer.measure.prefix import rest_logits, reusable
from explorer.models import View, expanded, read_prefix
from explorer.models.matrices import input_hook

MEMORY_BYTES = 1 << 30
Streams = Mapping[int, Float[Tensor, "_ _ d_model"]]  # by layer, at the input of that block
Tokens = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class KeptPrefix:
    """A shared beginning in the kept state.

    Attributes:
        tokens: what it is.
        streams: its residual streams, one row.
        cache: its keys and values in all layers, one row; never written to.
    """

    tokens: Int[Tensor, "1 position"]
    streams: Streams
    cache: Any


@dataclass(frozen=True, eq=False)
class Kept:
    """What one state of a view does on some batches, and the residual streams to start from.

    Attributes:
        batches: the batches, in order.
        streams: per batch its residual streams [batch, position, d_model], without the positions of a prefix.
        prefixes: per batch the shared beginning that its streams lack, None for a batch that is run whole.
        outcomes: per batch, what the view did then.
        model: the view's model, as it is loaded (`Model.as_loaded`).
        applied: `View.applied` as it was.
        tuples: whether this family's blocks answer with tuples.
        means: mean input over all real tokens of the stacked matrices asked for ([d_in], float32 or wider, on the CPU).
    """

    batches: tuple[Batch, ...]
    streams: tuple[Streams, ...]
    prefixes: tuple[KeptPrefix | None, ...]
    outcomes: tuple[Outcome, ...]
    model: str
    applied: Mapping[MatrixKey, Any]
    tuples: bool
    means: Mapping[MatrixKey, Float[Tensor, " _"]]

    @cached_property
    def losses(self) -> Float[Tensor, " example"]:
        """Loss of every example in the kept state, nats."""
        return torch.cat([found.loss for found in self.outcomes])

    @cached_property
    def loss(self) -> float:
        """Mean loss of the kept state, nats per example."""
        return sum(float(found.loss.sum()) for found in self.outcomes) / self.n

    @property
    def n(self) -> int:
        """Number of examples."""
        return sum(len(batch) for batch in self.batches)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose input is kept."""
        return tuple(self.streams[0])

    @property
    def tokens(self) -> int:
        """Most tokens that are run for one batch: padding counts, a shared beginning once per batch."""
        widths = zip(self.batches, self.prefixes, strict=True)
        return max(len(batch) * _width(batch, prefix) + (batch.shared if prefix else 0) for batch, prefix in widths)

    def start(self, layer: int) -> int:
        """The block from which a forward can start if nothing before block `layer` has changed; 0 for all of it."""
        return max((kept for kept in self.layers if kept <= layer), default=0)

    def first_change(self, view: View) -> int | None:
        """First layer at which the view's mask differs now from the one in force when this was kept; None if nowhere.

        Raises:
            SettingsError: a view of another model.
        """
        if view.model.as_loaded != self.model:
            raise SettingsError("the kept residual streams belong to another model: keep them again for this one.")
        sites = {*self.applied, *view.applied}
        return min((site.layer for site in sites if self.applied.get(site) != view.applied.get(site)), default=None)


def keep(
    view: View,
    batches: Sequence[Batch],
    *,
    inputs: Collection[MatrixKey] = (),
    memory_bytes: int = MEMORY_BYTES,
    progress: Progress | None = None,
) -> Kept:
    """Run the view as it is now over `batches`, keeping outcomes and residual streams.

    Args:
        view: the view; left as it was.
        batches: what `explorer.measure.batches.batches` made for this view; at least one.
        inputs: stacked matrices whose mean input is wanted.
        memory_bytes: bound on the kept streams: they are kept at every block, or at every k-th that fits.
        progress: told (done, total) batches.
    """
    keeper = _Keeper(view, inputs, _affordable(view, batches, memory_bytes))
    streams, prefixes, outcomes = [], [], []
    with view.lock, torch.no_grad():
        for batch in track(batches, progress):
            prefix = keeper.prefix(batch) if reusable(view, batch) else None
            with keeper.keeping(batch.rest.real if prefix else batch.real) as kept:
                logits = rest_logits(view, batch, prefix.cache) if prefix else answer_logits(view, batch)
            outcomes.append(outcome(logits, batch))
            prefixes.append(prefix)
            streams.append(kept)
            if prefix:
                keeper.count_prefix(prefix, len(batch))
        applied = dict(view.applied)
    return Kept(
        batches=tuple(batches),
        streams=tuple(streams),
        prefixes=tuple(prefixes),
        outcomes=tuple(outcomes),
        model=view.model.as_loaded,
        applied=applied,
        tuples=keeper.tuples,
        means=keeper.means(),
    )


def run_kept(view: View, kept: Kept) -> Iterator[Outcome]:
    """What the view, as it is now, does on each kept batch in turn; only blocks that its mask can have changed are run.

    Weights that were put onto the view by other means than `explorer.masks.apply.apply` are not noticed: see
    `logits_from`.
    """
    layer = kept.first_change(view)
    if layer is None:
        yield from kept.outcomes
        return
    for batch, logits in zip(kept.batches, logits_from(view, kept, layer), strict=True):
        yield outcome(logits, batch)


def logits_from(
    view: View, kept: Kept, layer: int, copies: int = 1
) -> Iterator[Float[Tensor, "answer_token vocabulary"]]:
    """Logits of the answer tokens of each batch in turn, if nothing before block `layer` differs from what was kept.

    Args:
        view: the view, with whatever weights and hooks are to be in force from block `layer` on; the same throughout.
        kept: its residual streams.
        layer: the first block that may differ.
        copies: how many copies of each batch to run at once, for hooks that treat each differently; the logits are
            those of `Batch.repeated`. Where a beginning is shared, hooks see it first, with one row per copy.
    """
    start = kept.start(layer)
    caches: dict[int, Any] = {}
    for batch, streams, prefix in zip(kept.batches, kept.streams, kept.prefixes, strict=True):
        many = batch if copies == 1 else batch.repeated(copies)
        if prefix is not None and id(prefix) not in caches:
            with _starting_at(view, start, prefix.streams, copies=copies, tuples=kept.tuples):
                cache = read_prefix(view, prefix.tokens.repeat(copies, 1))
            # The blocks that were skipped left no keys and values: they are what they were.
            cache.layers[:start] = expanded(prefix.cache, copies).layers[:start]
            caches[id(prefix)] = cache
        with _starting_at(view, start, streams, copies=copies, tuples=kept.tuples):
            logits = answer_logits(view, many) if prefix is None else rest_logits(view, many, caches[id(prefix)])
        yield logits


class _Keeper:
    """Catches residual streams and sums inputs while a view runs, reading each shared beginning once."""

    def __init__(self, view: View, sites: Collection[MatrixKey], layers: Sequence[int]) -> None:
        self.view, self.sites, self.layers = view, sites, layers
        self.tuples = False
        self._prefixes: dict[Tokens, tuple[KeptPrefix, dict[MatrixKey, Tensor]]] = {}
        self._sums: dict[MatrixKey, Tensor] = {}
        self._tokens = 0

    @contextmanager
    def keeping(self, real: Tensor, into: dict[MatrixKey, Tensor] | None = None) -> Iterator[dict[int, Tensor]]:
        """Catch streams; add inputs over `real` tokens to the sums (or `into` others)."""
        streams: dict[int, Tensor] = {}
        sums = self._sums if into is None else into

        def catch(module: Any, args: Any, answer: Any, layer: int) -> None:
            self.tuples = isinstance(answer, tuple)
            streams[layer] = answer[0] if self.tuples else answer

        def add(x: Tensor, hook: Any, site: MatrixKey) -> None:
            rows = x.flatten(2)[real.to(x.device)]
            added = rows.sum(dim=0, dtype=torch.promote_types(x.dtype, torch.float32))
            sums[site] = sums[site] + added if site in sums else added

        with ExitStack() as stack:
            for layer in self.layers:
                block = self.view.bridge.blocks[layer - 1]
                stack.callback(block.register_forward_hook(partial(catch, layer=layer)).remove)
            hooks = [(input_hook(site), partial(add, site=site)) for site in self.sites]
            stack.enter_context(self.view.bridge.hooks(fwd_hooks=hooks))
            yield streams
        self._tokens += int(real.sum()) if into is None else 0

    def prefix(self, batch: Batch) -> KeptPrefix:
        """The batch's shared beginning, run at its first occurrence."""
        name = tuple(batch.prefix[0].tolist())
        if name not in self._prefixes:
            sums: dict[MatrixKey, Tensor] = {}
            with self.keeping(torch.ones_like(batch.prefix, dtype=torch.bool), sums) as streams:
                cache = read_prefix(self.view, batch.prefix)
            self._prefixes[name] = KeptPrefix(batch.prefix, streams, cache), sums
        return self._prefixes[name][0]

    def count_prefix(self, prefix: KeptPrefix, examples: int) -> None:
        """Count a shared beginning's inputs once for each of its examples."""
        _, sums = self._prefixes[tuple(prefix.tokens[0].tolist())]
        for site, added in sums.items():
            self._sums[site] = self._sums[site] + examples * added
        self._tokens += examples * prefix.tokens.shape[1]

    def means(self) -> dict[MatrixKey, Tensor]:
        """Mean inputs over all real tokens so far."""
        return {site: (total / self._tokens).cpu() for site, total in self._sums.items()}


def _width(batch: Batch, prefix: KeptPrefix | None) -> int:
    return batch.tokens.shape[1] - (batch.shared if prefix else 0)


def _affordable(view: View, batches: Sequence[Batch], memory_bytes: int) -> tuple[int, ...]:
    """Layers to keep: all but the first, whose input is at hand, or every k-th one."""
    n_layers, width = int(view.config.n_layers), int(view.config.d_model)
    weight = next(view.bridge.original_model.parameters())
    each = sum(batch.rest.tokens.numel() for batch in batches) * width * weight.element_size()
    stride = next((k for k in range(1, n_layers) if len(range(k, n_layers, k)) * each <= memory_bytes), n_layers)
    return tuple(range(stride, n_layers, stride))


@contextmanager
def _starting_at(view: View, layer: int, streams: Streams, copies: int, *, tuples: bool) -> Iterator[None]:
    """Let the blocks before `layer` do nothing, the last of them answering with the kept stream."""
    if layer == 0:
        yield
        return
    stream = streams[layer].repeat(copies, 1, 1) if copies > 1 else streams[layer]

    def answering(hidden: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        return lambda given, *args, **options: (hidden(given), None) if tuples else hidden(given)

    skipped = [vars(block) for block in view.bridge.blocks[:layer]]  # an instance's own forward goes before its class's
    before = [attributes.get("forward") for attributes in skipped]
    try:
        for attributes in skipped:
            attributes["forward"] = answering(lambda given: given)
        skipped[-1]["forward"] = answering(lambda given: stream)
        yield
    finally:
        for attributes, forward in zip(skipped, before, strict=True):
            if forward is None:
                attributes.pop("forward", None)
            else:
                attributes["forward"] = forward
