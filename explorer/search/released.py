"""The paper's strategy as its released code does it, beside the corrected one (`explorer.search.paper`).

1. Score all values of some kinds, per head, in the `folded` basis, with the scorer `as-released`: mini-batches of
   `batch_size`, the previous example as the counterfactual, the residual stream before the layer norm as the input, the
   loss of one answer token at the prompt's last position, the maximum over examples and positions. With mini-batches of
   one every score is 0, and values go in the order of their places: by layer, kind, head, index.
2. Cut: for each kind take the first int(fraction * number of values of the kind) entries of the sorted list of *all*
   kinds' values, whatever kind those are of. Together that is the beginning of the list, as long as the largest kind's
   share: with several kinds less than `fraction` of all values goes, unevenly over kinds.
3. Freeze: the mean over the last mini-batch only, summed over token positions: many times what a token reads. An
   ordinary mask holds that exactly. For O alone it is kept by position (`explorer.masks.positionwise`), which no mask
   file can hold: there the mask has the mean over real tokens, and is measured as well. Every prompt must have one
   length.
4. Measure: an example is right if token `answer_token` of its answer is the likeliest one at the prompt's last
   position, even if that is not the answer's first token, as for RTE (1) in the published table.

Prompts of tasks without BOS (CB, COPA, RTE) are padded on the left to 512 tokens, or as far as the model reads, and
some tokenizers then put a BOS in front all the same, or count it as the answer's token 0
(`explorer.attribution.minibatches`). Padding is masked, so predictions are run without it.

What differs from the released code: no fine-tuning pass comes before; it scores on all that is not test, here the
validation split (a tenth) is kept apart; examples go in the task's own order; prompts of more than 512 tokens are
refused, not cut; grouped KV heads count once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from explorer.attribution import Options, Scores, score
from explorer.attribution.minibatches import reads_bos
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.core.progress import Progress, part
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.masks.positionwise import PositionMeans
from explorer.measure.evaluate import Evaluation
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search.control_runs import ControlRuns
from explorer.search.controls import DRAWS, OF_THE_MASK
from explorer.search.provenance import provenance
from explorer.search.released_measures import Evaluations, Measures
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

PADDED_TO = 512  # tokens of a prompt of a task without BOS
SUMMED = "summed over the token positions of the last mini-batch"
AVERAGED = "; of O averaged over its real tokens: as released there is one per token position"


@dataclass(frozen=True)
class ReleasedSettings:
    """Settings of the released code.

    Attributes:
        fraction: share of the values that goes; see the module docstring for which.
        batch_size: examples in a mini-batch. The one behind the published table is not known.
        answer_token: which token of an answer is asked for, from 0. For tasks without BOS a BOS that the tokenizer adds
            to an answer counts.
        padded_to: tokens that prompts of tasks without BOS are padded to, if the model reads so many.

    Raises:
        SettingsError: a number that is out of range.
    """

    fraction: float = 0.2
    batch_size: int = 8
    answer_token: int = 0
    padded_to: int = PADDED_TO

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise SettingsError(f"a fraction of {self.fraction:g} cannot be removed: give more than 0 and at most 1.")
        if self.padded_to < 1:
            raise SettingsError(f"padded_to is {self.padded_to}: give 1 or more.")
        self.options(0)

    def options(self, padded_to: int) -> Options:
        """As the scorer takes them; 0 for prompts that are not padded."""
        return Options(batch_size=self.batch_size, answer_token=self.answer_token, padded_to=padded_to)


@dataclass(frozen=True)
class ReleasedRequest:
    """What is asked of the released code, but for model and task.

    Attributes:
        kinds: of the matrices whose values may go; empty for all kinds of the model.
        settings: of the released code.
        limit: examples used of the train split; None for all.
        test_limit: examples used of the validation and of the test split; None for all.
        seed: of the controls.
        control_draws: draws of each random control; 0 for no controls.
        control_names: which controls.
        allow_raw: take a model in the raw basis, too: for those whose norms cannot be folded.
    """

    kinds: Collection[Kind] = ()
    settings: ReleasedSettings = ReleasedSettings()
    limit: int | None = None
    test_limit: int | None = None
    seed: int = 0
    control_draws: int = DRAWS
    control_names: Sequence[str] = OF_THE_MASK
    allow_raw: bool = False


@dataclass(frozen=True)
class ReleasedReport:
    """What the released code removes, and what that does.

    Attributes:
        mask: the removed values with their frozen means: as released, but for O's (`AVERAGED`).
        means: what the released code freezes O's values to.
        before, released, averaged: by split, the unpruned model, as released, and the mask as it is, which is empty
            unless the mask removes values of O; right means token `answer_token` at the prompt's last position. An
            empty validation split is left out.
        exact: the same on the test split, by name, with all answer tokens counted, teacher-forced.
        controls: by name, on the test split, frozen like the mask.
        positions: tokens of a prompt, with its padding.
        reads_bos: whether prompts were read with a BOS in front.
        forwards: forward passes of one example until the mask was found (a backward pass counts as two).
        seconds: until the mask was found.
    """

    task: str
    seed: int
    settings: ReleasedSettings
    mask: Mask
    means: PositionMeans
    before: Evaluations
    released: Evaluations
    averaged: Evaluations
    exact: Evaluations
    controls: Mapping[str, ControlRuns]
    positions: int
    reads_bos: bool
    forwards: int
    seconds: float

    @property
    def baseline(self) -> Evaluation:
        """The unpruned model on the test split."""
        return self.before["test"]

    @property
    def test(self) -> Evaluation:
        """As released, on the test split."""
        return self.released["test"]

    @property
    def train(self) -> Evaluation:
        """As released, on the train examples that were scored."""
        return self.released["train"]

    @property
    def averaged_test(self) -> Evaluation | None:
        """The mask as it is on the test split; None if that is as released."""
        return self.averaged.get("test")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        validation = self.released.get("validation")
        return {
            "strategy": "paper",
            "as_released": True,
            "task": self.task,
            "seed": self.seed,
            "fraction": self.settings.fraction,
            "batch_size": self.settings.batch_size,
            "answer_token": self.settings.answer_token,
            "mode": self.mask.mode,
            "positions": self.positions,
            "padded": self.means.padded,
            "reads_bos": self.reads_bos,
            "removed": len(self.mask),
            "removed_by_kind": dict(Counter(str(one.key.kind) for one in self.mask.removed)),
            "mask_digest": self.mask.digest,
            "train": self.train.as_dict(),
            "validation": None if validation is None else validation.as_dict(),
            "test": self.test.as_dict(),
            "baseline": self.baseline.as_dict(),
            "unpruned": _figures(self.before),
            "averaged": _figures(self.averaged),
            "exact": _figures(self.exact),
            "controls": {name: one.as_dict() for name, one in self.controls.items()},
            "forwards": self.forwards,
            "seconds": self.seconds,
            "versions": dict(self.mask.provenance.versions),
        }


def run_released(
    view: View, task: Task, svds: SvdCache, request: ReleasedRequest, *, progress: Progress | None = None
) -> ReleasedReport:
    """Remove what the released code removes; measure that, the unpruned model and controls.

    The view is left unpruned.

    Args:
        view: of a model in the `folded` basis.
        task: the whole task; the test split is only measured on.
        svds: decompositions.
        request: what is asked.
        progress: told (done, total).

    Raises:
        SettingsError: the raw basis, or an answer without the token that is asked for.
        TaskError: prompts of several lengths in a task with BOS, longer than they are padded to in one without, or
            examples that this model cannot take.
        MatrixError: a kind that the model does not have.
    """
    _check_basis(view, allow_raw=request.allow_raw)
    settings, limit, seed = request.settings, request.limit, request.seed
    keys, started = matrices(view, tuple(request.kinds) or None), time.monotonic()
    options = settings.options(0 if task.bos else min(settings.padded_to, int(view.config.n_ctx)))
    read = task if task.bos else replace(task, bos=reads_bos(view))
    with view.lock:
        try:
            measures = Measures(view, read, svds, options=options, limit=limit, test_limit=request.test_limit)
            positions = measures.check()
            scores = score(
                view, read, svds, keys=keys,
                scorer="as-released", limit=limit, options=options, progress=part(progress, 0.0, 0.4),
            )  # fmt: skip
            means = measures.position_means(keys)
            mask = _mask(view, task, scores, settings=settings, seed=seed)
            seconds = time.monotonic() - started
            before, released, averaged = measures.compared(mask, means, part(progress, 0.4, 0.6))
            seeds, last = range(seed, seed + request.control_draws), (scores.n - 1) % settings.batch_size + 1
            return ReleasedReport(
                task=task.name, seed=seed, settings=settings, mask=mask, means=means, before=before, released=released,
                averaged=averaged, exact=measures.exact(mask, means, before, released=released, averaged=averaged),
                controls=measures.controls(
                    scores, mask, means, test=released["test"], seeds=seeds, names=request.control_names,
                    progress=part(progress, 0.6, 1.0),
                ),
                positions=positions, reads_bos=measures.reads_bos,
                forwards=4 * scores.n + (last if means.of else 0),  # loss, scores, last mini-batch
                seconds=seconds,
            )  # fmt: skip
        finally:
            apply(view, empty_mask(view.model), svds)


def cut(scores: Scores, fraction: float) -> list[tuple[MatrixKey, int]]:
    """The values that go, in the order of their scores; see step 2 of the module docstring."""
    sizes = Counter(key.kind for key, matrix in scores.matrices.items() for _ in range(len(matrix.s)))
    largest = max(int(size * fraction) for size in sizes.values())
    return [(key, index) for _, key, index in scores.ranking()[:largest]]


def _check_basis(view: View, *, allow_raw: bool) -> None:
    if view.model.basis != "folded" and not allow_raw:
        raise SettingsError(
            f"{view.model.source.name} is loaded in the {view.model.basis} basis, the released code decomposes folded "
            "weights: load it in the folded basis."
        )


def _mask(view: View, task: Task, scores: Scores, settings: ReleasedSettings, seed: int) -> Mask:
    """The removed values with their frozen means, and what those are."""
    chosen = cut(scores, settings.fraction)
    if not chosen:
        raise SettingsError(
            f"a fraction of {settings.fraction:g} of {scores.size:,} values is less than one value: give a larger one."
        )
    made = provenance(task=task, split="train", examples=scores.n, seed=seed, scorer=scores.scorer)
    frozen = SUMMED + AVERAGED * any(key.kind is Kind.O for key, _ in chosen)
    notes = {"frozen_means": frozen, "batch_size": settings.batch_size, "answer_token": settings.answer_token}
    mask = empty_mask(view.model).with_removed(scores.removed(*place) for place in chosen)
    return mask.model_copy(update={"provenance": made, "metrics": notes})


def _figures(evaluations: Evaluations) -> dict[str, Any]:
    return {name: one.as_dict() for name, one in evaluations.items()}
