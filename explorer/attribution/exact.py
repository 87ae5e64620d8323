"""The exact effect of single values and of whole masks: what every estimate is compared with.

Single values (`exact_effects`, and the scorer `exact`):

1. One pass over the examples keeps the state of the view and the mean inputs m.
2. Values are taken layer by layer. Copies of the examples run together from their layer on, one value changed in each:
   no weight is edited. `explorer.attribution.runs` chooses how they run.
3. Results go to the store, if there is one, as they come. Runs are cut in the same way whatever was stored before, so
   one that was stopped or killed goes on and ends with the same bits.
4. With a `Pace`, a few runs are measured first, and what the whole takes is told before it begins; and runs come in
   random order, so that what a limit of time allows is a random sample of them (of up to `Runs.copies` values each).

Masks (`mask_losses`, `joint_effects`): each is put onto the view, and only what it changes is run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypedDict, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.base import MatrixScores, ScoringRequest, frozen_means
from explorer.attribution.effect_store import EffectStore, default_effects
from explorer.attribution.pace import Pace, Run, tracked
from explorer.attribution.runs import Runs, kept_runs
from explorer.attribution.singles import Flip
from explorer.core.errors import MaskError, MatrixError, SettingsError
from explorer.core.files import digest
from explorer.core.keys import MatrixKey
from explorer.core.measuring import effects_digest
from explorer.core.progress import Progress, part, track
from explorer.masks.apply import apply, empty_mask
from explorer.masks.fitting import fitted
from explorer.masks.mask import Mask, Mode
from explorer.measure.batches import Batch
from explorer.measure.metrics import Mean, paired_difference
from explorer.measure.residuals import Kept, keep, run_kept
from explorer.models import View
from explorer.models.matrices import check
from explorer.models.tensors import tensor_bytes
from explorer.spectra.cache import SvdCache

FORMAT = "exact-3"
Value = tuple[MatrixKey, int]
Chunk = Sequence[Value]  # values of one layer whose copies run together
# Who measures runs instead of this process: given the runs, the job that they belong to, and what is told how far it
# is, gives the effects of some of the values at a time.
Apart = Callable[[Sequence[Chunk], "EffectsJob", Progress | None], Iterator[Mapping[Value, Mean]]]


@dataclass(frozen=True, eq=False)
class Effects:
    """Exact effects of single values on one set of examples.

    Attributes:
        loss: mean loss without the changes, nats per example.
        n: number of examples.
        values: change of the mean loss by each value alone, nats per example, negative = it helps; in the order asked.
        c: frozen means m . u_i of all values of the matrices concerned; for a removed value the mask's own.
    """

    loss: float
    n: int
    values: Mapping[Value, Mean]
    c: Mapping[MatrixKey, Float[Tensor, " _"]]


class Flips(TypedDict, total=False):
    """How values are flipped.

    Attributes:
        mode: how values are removed; must be the mask's if there is one; `freeze` if not given.
        mask: what is removed already.
        means: mean input of each stacked matrix, for frozen means; by default that of the view on the examples. A
            removed value is restored with the frozen mean in the mask.
    """

    mode: Mode
    mask: Mask | None
    means: Mapping[MatrixKey, Float[Tensor, " _"]] | None


def exact_effects(
    view: View,
    batches: Sequence[Batch],
    svds: SvdCache,
    values: Iterable[Value],
    *,
    store: EffectStore | None = None,
    apart: Apart | None = None,
    progress: Progress | None = None,
    pace: Pace | None = None,
    **flips: Unpack[Flips],
) -> Effects:
    """Measure what removing each value alone does; at a mask, what removing a kept or restoring a removed one does.

    At a mask with a gain, a kept value is scaled to that gain instead, and a scaled one restored.

    The view is left with `mask` on it (unpruned if there is none), also when `progress` raises `Stopped`.

    Args:
        view: any state.
        batches: the examples, from `explorer.measure.batches.batches` for this view.
        svds: decompositions.
        values: (matrix, index), in any order; a matrix may be given per head or stacked.
        store: where results are looked up and kept as they come.
        apart: who measures what is not in the store; this process if None. Not for means of one's own.
        progress: told (done, total); what was done before it raised is in the store.
        pace: for long work: tells beforehand what it takes, and may end it early; what was not measured until then is
            absent from the result.
        flips: how values are flipped, and from which mask on.

    Raises:
        MatrixError: a matrix or a value that does not exist.
        MaskError: a mask that does not fit the model, or that holds the stacked matrix of a head asked for (or a head
            of a stacked matrix).
        SettingsError: no examples, or a mode that is not the mask's.
    """
    mode, mask, means = flips.get("mode", "freeze"), flips.get("mask"), flips.get("means")
    mask = empty_mask(view.model, mode) if mask is None else mask
    if not batches or mask.mode != mode:
        raise SettingsError(
            f"exact effects need examples and one mode: got {len(batches)} batches, {mask.mode}, {mode}."
        )
    wanted = tuple(dict.fromkeys(values))
    with view.lock:
        _check(view, mask, svds, values=wanted)
        keys = tuple(dict.fromkeys(key for key, _ in wanted))
        job = EffectsJob.begin(
            view, batches, svds, mask=mask, keys=keys, means=means, progress=part(progress, 0.0, 0.05)
        )
        bar = part(progress, 0.05, 1.0)
        measured = job.run(wanted, store, None if means is not None else apart, progress=bar, pace=pace)
        c = {key: job.means(key) for key in keys}
    kept = job.kept
    return Effects(kept.loss, kept.n, {value: measured[value] for value in wanted if value in measured}, c=c)


def known_effects(
    view: View, batches: Sequence[Batch], keys: Iterable[MatrixKey], mask: Mask, store: EffectStore
) -> dict[Value, Mean]:
    """What `exact_effects` has already measured on these examples at `mask`, without measuring anything.

    Args:
        view: of the model, in any state.
        batches: the examples, from `explorer.measure.batches.batches`.
        keys: the matrices to look up, named as they were when they were measured (per head or stacked).
        mask: what is removed already; the empty mask for the unpruned model.
        store: where results were kept.
    """
    context = _context(view, batches, mask)
    return {(key, i): Mean(*entry) for key in keys for i, entry in store.load(_name(context, key)).items()}


def forwards(view: View, values: Iterable[Value], examples: int) -> float:
    """What `exact_effects` costs at most, in forward passes of one example: all once, then from each value's layer on.

    Plain arithmetic (`explorer.attribution.runs`) takes less, by what examples share.
    """
    layers = int(view.config.n_layers)
    return examples * (1.0 + sum((layers - key.layer) / layers for key, _ in values))


def mask_losses(
    view: View, kept: Kept, svds: SvdCache, masks: Sequence[Mask], progress: Progress | None = None
) -> Float[Tensor, "mask example"]:
    """Loss of every example (nats, on the CPU) under each of several masks; only the blocks that change are run.

    The view is left unpruned, also when `progress` raises `Stopped`.

    Args:
        view: any state.
        kept: residual streams of the view in some state, best the unpruned one.
        svds: decompositions.
        masks: of this model.
        progress: told (done, total) masks.
    """
    rows = []
    with view.lock, torch.no_grad():
        try:
            for mask in track(masks, progress):
                apply(view, mask, svds)
                rows.append(torch.cat([found.loss for found in run_kept(view, kept)]).cpu())
        finally:
            apply(view, empty_mask(view.model), svds)
    return torch.stack(rows) if rows else torch.zeros(0, kept.n)


def keep_unpruned(
    view: View, batches: Sequence[Batch], svds: SvdCache, progress: Progress | None = None
) -> tuple[Kept, list[float]]:
    """The residual streams of the unpruned view, and the loss of every example (nats); the view is left unpruned."""
    with view.lock:
        apply(view, empty_mask(view.model), svds)
        kept = keep(view, batches, progress=progress)
    return kept, kept.losses.tolist()


def joint_effects(
    view: View, batches: Sequence[Batch], svds: SvdCache, masks: Sequence[Mask], progress: Progress | None = None
) -> tuple[Mean, ...]:
    """Change of the mean loss (nats per example) by each mask against the unpruned view; see `mask_losses`."""
    kept, before = keep_unpruned(view, batches, svds, progress=part(progress, 0.0, 0.05))
    rows = mask_losses(view, kept, svds, masks=masks, progress=part(progress, 0.05, 1.0))
    return tuple(paired_difference(row, before) for row in rows.tolist())


def exact(request: ScoringRequest) -> tuple[float, dict[MatrixKey, MatrixScores]]:
    """Measured change of the loss for every value alone, resumed from the cache folder; see `exact_effects`."""
    s = {key: request.svds.get(request.view, key).s for key in request.keys}
    present: dict[MatrixKey, list[int]] = {key: one.nonzero().flatten().tolist() for key, one in s.items()}
    values = [(key, index) for key in request.keys for index in present[key]]
    request.meter.forwards += forwards(request.view, values, request.n)
    effects = exact_effects(
        request.view,
        request.batches,
        request.svds,
        values=values,
        mode=request.mode,
        mask=request.mask,
        store=default_effects(warnings.warn),
        progress=request.progress,
    )
    scored = {}
    for key in request.keys:
        score = torch.zeros(len(s[key]), dtype=torch.float64)
        c = effects.c.get(key, score)  # of a matrix that is null altogether nothing is measured
        for index in present[key]:
            score[index] = effects.values[key, index].value
        scored[key] = MatrixScores(s[key], score.to(c.dtype), c)
    return effects.loss, scored


@dataclass(frozen=True, eq=False)
class EffectsJob:
    """One measurement of single values.

    Attributes:
        view: with `mask` on it.
        kept: its residual streams.
        runs: runs copies of the examples.
        svds: decompositions.
        mask: what is removed already.
        inputs: mean input of each stacked matrix that is measured.
        context: names, in the store, everything but matrix and index: equal where the same values are measured.
    """

    view: View
    kept: Kept
    runs: Runs
    svds: SvdCache
    mask: Mask
    inputs: Mapping[MatrixKey, Tensor]
    context: str

    @classmethod
    def begin(
        cls,
        view: View,
        batches: Sequence[Batch],
        svds: SvdCache,
        *,
        mask: Mask,
        keys: Iterable[MatrixKey],
        means: Mapping[MatrixKey, Tensor] | None = None,
        progress: Progress | None = None,
    ) -> EffectsJob:
        """Put the mask onto the view and run all examples once; of some matrices the mean inputs are kept."""
        apply(view, mask, svds)
        svds = fitted(view, mask, svds)
        sites = () if means is not None else tuple(dict.fromkeys(key.stacked for key in keys))
        kept, runs = kept_runs(view, batches, sites, progress=progress)
        context = _context(view, batches, mask, means=means)
        inputs = kept.means if means is None else means
        return cls(view, kept, runs, svds=svds, mask=mask, inputs=inputs, context=context)

    def run(
        self,
        values: Sequence[Value],
        store: EffectStore | None,
        apart: Apart | None,
        *,
        progress: Progress | None,
        pace: Pace | None,
    ) -> dict[Value, Mean]:
        """The effects of some values: looked up, measured here or apart, and kept as they come."""
        known = {} if store is None else self._known(values, store)
        runs = [Run(tuple(of), math.fsum(self.runs.work(key) for key, _ in of)) for of in self._cut(values)]
        left = [run for run in runs if not known.keys() >= set(run.values)]

        def missing(run: Run) -> list[Value]:
            return [value for value in run.values if value not in known]

        if apart is None:
            ordered = left if pace is None else pace.ordered(left, known=len(known.keys() & set(values)))
            told = tracked(ordered, math.fsum(run.work for run in left), progress)
            fresh: Iterator[Mapping[Value, Mean]] = (some for run in told for some in self.measured([missing(run)]))
        else:
            fresh = apart([missing(run) for run in left], self, progress)
        for some in fresh:
            known |= some
            if store is not None:
                store.save({(self._name(key), i): (m.value, m.stderr, m.n) for (key, i), m in some.items()})
        return known

    def measured(self, runs: Sequence[Chunk], progress: Progress | None = None) -> Iterator[Mapping[Value, Mean]]:
        """The effects of each run's values, whose copies run together."""
        for run in track(runs, progress):
            rows = self.runs.losses(list(self._changes(run))).tolist()
            yield {value: paired_difference(row, self.runs.before) for value, row in zip(run, rows, strict=True)}

    def means(self, key: MatrixKey) -> Tensor:
        """Frozen means of one matrix."""
        svd = self.svds.get(self.view, key)
        return frozen_means(self.view, key, svd, inputs=self.inputs, mask=self.mask)

    def _known(self, values: Sequence[Value], store: EffectStore) -> dict[Value, Mean]:
        keys = dict.fromkeys(key for key, _ in values)
        return {(key, i): Mean(*entry) for key in keys for i, entry in store.load(self._name(key)).items()}

    def _name(self, key: MatrixKey) -> str:
        return _name(self.context, key)

    def _cut(self, values: Sequence[Value]) -> list[list[Value]]:
        """Values of one layer, in order, as many as are run together."""
        copies = self.runs.copies
        layers = groupby(sorted(values), key=lambda value: value[0].layer)
        return [
            group[i : i + copies] for _, of in layers for group in (list(of),) for i in range(0, len(group), copies)
        ]

    def _changes(self, values: Sequence[Value]) -> Iterator[Flip]:
        taken = 1.0 - self.mask.gain
        for key, group in groupby(values, key=lambda value: value[0]):
            svd, c, removed = self.svds.get(self.view, key), self.means(key), self.mask.indices(key)
            indices = [i for _, i in group]
            for i, u, v in zip(indices, svd.left(indices).T, svd.right(indices), strict=True):
                weight = svd.s[i].to(v.dtype) * (taken if i in removed else -taken)
                yield Flip(key, u, weight * v, c=float(c[i]) if self.mask.mode == "freeze" else 0.0)


def _name(context: str, key: MatrixKey) -> str:
    """Under which name the store keeps the effects of one matrix."""
    return f"{context} {key}"


def _check(view: View, mask: Mask, svds: SvdCache, values: Sequence[Value]) -> None:
    for key, group in groupby(values, key=lambda value: value[0]):
        check(view, key)
        overlapping = [other for other in mask.by_matrix if other.stacked == key.stacked and other != key]
        if any(other.head is None or key.head is None for other in overlapping):
            raise MaskError(f"{key} overlaps {overlapping[0]} of the mask: ask for matrices as the mask holds them.")
        rank = svds.get(view, key).rank
        for _, index in group:
            if not 0 <= index < rank:
                raise MatrixError(f"{key} has singular values 0 to {rank - 1}, not {index}: choose one of them.")


def _context(view: View, batches: Sequence[Batch], mask: Mask, means: Mapping[MatrixKey, Tensor] | None = None) -> str:
    """Digest of model, its type and device, mode, mask, examples, code and, if given, mean inputs.

    Batches may be cut in any way.
    """

    def parts() -> Iterator[bytes | memoryview]:
        yield f"{FORMAT} {view.model.as_loaded} {mask.digest} {effects_digest()};".encode()
        for batch in batches:
            for row in range(len(batch)):
                mine = batch.rows == row
                yield f"{batch.tokens[row][batch.real[row]].tolist()}".encode()
                yield f"{batch.positions[mine].tolist()} {batch.targets[mine].tolist()};".encode()
        for site in sorted(means or ()):
            yield str(site).encode()
            yield tensor_bytes((means or {})[site])

    return digest(parts())
