"""What a view does on a task's examples, and how that differs from the unpruned model on the same examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from explorer import finite
from explorer.batches import Batch, batches
from explorer.errors import SettingsError
from explorer.metrics import Mean, Outcome, mean, paired_difference, run_all, wilson_interval
from explorer.models import View
from explorer.paired import McNemar, bootstrap_interval, mcnemar
from explorer.progress import Progress, track
from explorer.residuals import Kept, keep, run_kept
from explorer.tasks import Example, Task
from explorer.tokens import decoded


@dataclass(frozen=True)
class Evaluation:
    """Loss, correctness and the model's own answer on every example, in the examples' order.

    Attributes:
        loss: summed over answer tokens, nats per example.
        correct: teacher-forced exact match over all answer tokens; never where the loss is not finite.
        answers: the most likely token at every answer position, decoded; a row that is no token by its number; "" where
            the loss is not a number.
    """

    examples: tuple[Example, ...]
    loss: tuple[float, ...]
    correct: tuple[bool, ...]
    answers: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.loss)

    @cached_property
    def accuracy(self) -> float:
        """Share of examples answered exactly."""
        return sum(self.correct) / self.n

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(sum(self.correct), self.n)

    @cached_property
    def mean_loss(self) -> Mean:
        """Mean loss, nats per example, with its standard error."""
        return mean(self.loss)

    @cached_property
    def not_finite(self) -> tuple[int, ...]:
        """Places of the examples whose loss is not finite; with any, the mean loss is not a number."""
        return finite.places(self.loss)

    def first(self, count: int) -> Evaluation:
        """The first `count` examples of it."""
        return Evaluation(self.examples[:count], self.loss[:count], self.correct[:count], self.answers[:count])

    def only(self, places: Sequence[int]) -> Evaluation:
        """The examples at these places of it."""
        return Evaluation(
            tuple(self.examples[i] for i in places),
            tuple(self.loss[i] for i in places),
            tuple(self.correct[i] for i in places),
            tuple(self.answers[i] for i in places),
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures for a report: n, accuracy, accuracy_interval, loss, loss_stderr.

        Where losses are not finite, `not_finite` says how many.
        """
        found = {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "loss": self.mean_loss.value,
            "loss_stderr": self.mean_loss.stderr,
        }
        return found | {"not_finite": len(self.not_finite)} if self.not_finite else found


@dataclass(frozen=True)
class Comparison:
    """A masked evaluation beside the unpruned one on the same examples."""

    masked: Evaluation
    baseline: Evaluation

    @cached_property
    def loss_change(self) -> Mean:
        """Mean paired change of the loss, nats per example; negative means the mask helps."""
        return paired_difference(self.masked.loss, self.baseline.loss)

    @cached_property
    def accuracy_change(self) -> Mean:
        """Mean paired change of the accuracy."""
        return paired_difference([float(c) for c in self.masked.correct], [float(c) for c in self.baseline.correct])

    @cached_property
    def accuracy_test(self) -> McNemar:
        """Exact McNemar test of the change of the accuracy."""
        return mcnemar(self.masked.correct, self.baseline.correct)

    def loss_interval(self, seed: int = 0) -> tuple[float, float]:
        """Paired 95 % bootstrap interval of the change of the mean loss, nats per example."""
        pairs = zip(self.masked.loss, self.baseline.loss, strict=True)
        return bootstrap_interval([now - before for now, before in pairs], seed=seed)

    @property
    def repaired(self) -> tuple[int, ...]:
        """Indices of examples that went from wrong to right."""
        return self._flipped(to=True)

    @property
    def broken(self) -> tuple[int, ...]:
        """Indices of examples that went from right to wrong."""
        return self._flipped(to=False)

    def _flipped(self, *, to: bool) -> tuple[int, ...]:
        pairs = zip(self.masked.correct, self.baseline.correct, strict=True)
        return tuple(i for i, (now, before) in enumerate(pairs) if now is to and before is not to)


def evaluate(
    view: View,
    task: Task,
    split: str = "test",
    *,
    limit: int | None = None,
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the view, as it is now, over one split of a task.

    Args:
        view: the view; what prompts of the split begin with in common is read once.
        task: the task.
        split: `train`, `validation` or `test`.
        limit: only that many examples.
        kept: residual streams of the same examples (`keep_split`): then only blocks that the view's mask can have
            changed are run.
        progress: told (done, total) batches.

    Raises:
        TaskError: an empty split, or an example that this model cannot take.
        SettingsError: residual streams of other examples or another model.
    """
    examples = task.split(split, limit)
    with view.lock, torch.inference_mode():
        prepared = batches(view, task, examples)
        if kept is not None:
            _check_kept(kept, prepared)
        results = run_all(view, prepared) if kept is None else run_kept(view, kept)
        return gather(view, examples, prepared, results, progress)


def evaluate_kept(
    view: View,
    examples: tuple[Example, ...],
    kept: Kept,
    progress: Progress | None = None,
    so_far: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """As `evaluate` with `kept`, for whoever holds the examples that it was made of: nothing is tokenised again.

    Args:
        view: the view.
        examples: those that `kept` was made of.
        kept: residual streams.
        progress: told (done, total) batches.
        so_far: given the evaluation of the first examples, whenever there are more of them.

    Raises:
        SettingsError: another number of examples, or residual streams of another model.
    """
    if len(examples) != kept.n:
        raise SettingsError(f"the kept residual streams are of {kept.n:,} examples, not of {len(examples):,}.")
    with view.lock, torch.inference_mode():
        return gather(view, examples, kept.batches, run_kept(view, kept), progress, so_far)


def gather(
    view: View,
    examples: tuple[Example, ...],
    prepared: Sequence[Batch],
    results: Iterable[Outcome],
    progress: Progress | None = None,
    so_far: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """The evaluation of some examples from what their batches gave, which may still be to be run."""
    found: dict[int, tuple[float, bool, str]] = {}
    first = 0  # so many from the start have been found
    for batch, result in zip(track(prepared, progress), results, strict=True):
        answers = _decode(view.model.tokenizer, batch, result.predicted.tolist())
        losses = result.loss.tolist()
        said = ["" if math.isnan(loss) else answer for loss, answer in zip(losses, answers, strict=True)]
        each = zip(losses, result.correct.tolist(), said, strict=True)
        found |= zip(batch.places.tolist(), each, strict=True)
        if so_far is not None and first in found:
            while first in found:
                first += 1
            so_far(_evaluation(examples[:first], found))
    return _evaluation(examples, found)


def _evaluation(examples: tuple[Example, ...], found: Mapping[int, tuple[float, bool, str]]) -> Evaluation:
    """What was found of `examples`, by their places."""
    loss, correct, said = zip(*(found[place] for place in range(len(examples))), strict=True)
    return Evaluation(examples, loss, correct, said)


def keep_split(
    view: View, task: Task, split: str = "test", *, limit: int | None = None, progress: Progress | None = None
) -> Kept:
    """Run the view, as it is now, over one split and keep its residual streams for `evaluate`; raises as it does."""
    with view.lock:
        return keep(view, batches(view, task, task.split(split, limit)), progress=progress)


def _check_kept(kept: Kept, prepared: Sequence[Batch]) -> None:
    pairs = zip(kept.batches, prepared, strict=False)
    same = len(kept.batches) == len(prepared) and all(one.same_as(other) for one, other in pairs)
    if not same:
        raise SettingsError("the kept residual streams belong to other examples: keep them again for this split.")


def _decode(tokenizer: Any, batch: Batch, predicted: Sequence[int]) -> list[str]:
    tokens: list[list[int]] = [[] for _ in range(len(batch))]
    for row, token in zip(batch.rows.tolist(), predicted, strict=True):
        tokens[row].append(token)
    return [decoded(tokenizer, row) for row in tokens]
