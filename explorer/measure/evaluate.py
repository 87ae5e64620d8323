"""What a view does on a task's examples, and how that differs from the unpruned model on the same examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch

from explorer.core import finite
from explorer.core.errors import SettingsError
from explorer.core.progress import Progress, track
from explorer.measure.batches import Batch, Readers
from explorer.measure.metrics import Mean, Outcome, mean, paired_difference, pick, run_all, share, wilson_interval
from explorer.measure.paired import McNemar, bootstrap_interval, mcnemar
from explorer.measure.readers import Texts, answers_and_choices, answers_only, measured_batches
from explorer.measure.residuals import Kept, keep, run_kept
from explorer.measure.tokens import decoded
from explorer.models import View
from explorer.tasks import Example, Metric, Task
from explorer.tasks.metric import RULE_OF, RULES, Rule, accuracy_name


@dataclass(frozen=True)
class Evaluation:
    """Loss, correctness and the model's own answer on every example, in the examples' order.

    Attributes:
        loss: of the right answer, summed over its tokens, nats per example.
        exact: teacher-forced exact match over all answer tokens; never where the loss is not finite.
        answers: the most likely token at every answer position, decoded; a row that is no token by its number; "" where
            the loss is not a number.
        metric: what counts as right in `correct` and `accuracy`.
        picked: the choice with the largest summed log-probability; None for an example without choices, and where none
            alone is the most probable. Empty if choices were not measured.
        picked_mean: the same by the mean log-probability per token.
    """

    examples: tuple[Example, ...]
    loss: tuple[float, ...]
    exact: tuple[bool, ...]
    answers: tuple[str, ...]
    metric: Metric = "exact"
    picked: tuple[str | None, ...] = ()
    picked_mean: tuple[str | None, ...] = ()

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.loss)

    @cached_property
    def correct(self) -> tuple[bool, ...]:
        """Whether each example is right by the metric."""
        return self.exact if self.metric == "exact" else self.hits(RULE_OF[self.metric])

    @cached_property
    def accuracy(self) -> float:
        """Share of examples that are right by the metric."""
        return sum(self.correct) / self.n

    @cached_property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy."""
        return wilson_interval(sum(self.correct), self.n)

    @property
    def accuracy_name(self) -> str:
        """`accuracy`, with what it counts where the examples have choices: `accuracy (choice)`."""
        return accuracy_name(self.metric, choices=bool(self.chosen_among))

    @cached_property
    def chosen_among(self) -> tuple[int, ...]:
        """Places of the examples that have choices."""
        return tuple(place for place, example in enumerate(self.examples) if example.choices)

    def hits(self, rule: Rule) -> tuple[bool, ...]:
        """Whether a rule picks the answer, for each example that has choices; empty if they were not measured."""
        picked = self.picked if rule == "sum" else self.picked_mean
        return tuple(picked[place] == self.examples[place].answer for place in self.chosen_among) if picked else ()

    def says(self, place: int) -> str:
        """What counts as the model's answer to an example; empty where several choices are equally probable."""
        if self.metric == "exact":
            return self.answers[place]
        return (self.picked if self.metric == "choice" else self.picked_mean)[place] or ""

    @property
    def shares(self) -> Mapping[str, float]:
        """The accuracy by every metric that was measured; by choices, of the examples that have some."""
        found = {"exact": self.exact, **{metric: self.hits(rule) for metric, rule in RULE_OF.items()}}
        return {metric: sum(hits) / len(hits) for metric, hits in found.items() if hits}

    @cached_property
    def guessing(self) -> float | None:
        """Accuracy of guessing blindly among the choices; None without choices."""
        counts = [len(self.examples[place].choices) for place in self.chosen_among]
        return math.fsum(1 / count for count in counts) / len(counts) if counts else None

    @cached_property
    def majority(self) -> float | None:
        """Accuracy, among examples with choices, of always giving their most frequent answer; None without choices."""
        answers = Counter(self.examples[place].answer for place in self.chosen_among)
        return max(answers.values()) / answers.total() if answers else None

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
        return self.only(range(count))

    def only(self, places: Sequence[int]) -> Evaluation:
        """The examples at these places of it."""
        return Evaluation(
            tuple(self.examples[i] for i in places),
            tuple(self.loss[i] for i in places),
            tuple(self.exact[i] for i in places),
            answers=tuple(self.answers[i] for i in places),
            metric=self.metric,
            picked=tuple(self.picked[i] for i in places if self.picked),
            picked_mean=tuple(self.picked_mean[i] for i in places if self.picked_mean),
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures for a report.

        n, metric, accuracy, accuracy_interval, loss, loss_stderr; then `exact`, and per rule `choice`, whatever the
        metric is; `guessing` and `majority`, null without choices, as `choice` is. Where losses are not finite,
        `not_finite` says how many.
        """
        chosen = {rule: share(hits) for rule in RULES if (hits := self.hits(rule))}
        found = {
            "n": self.n,
            "metric": self.metric,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "loss": self.mean_loss.value,
            "loss_stderr": self.mean_loss.stderr,
            "exact": share(self.exact),
            "choice": chosen or None,
            "guessing": self.guessing,
            "majority": self.majority,
        }
        return found | {"not_finite": len(self.not_finite)} if self.not_finite else found


@dataclass(frozen=True)
class Comparison:
    """A masked evaluation beside the unpruned one on the same examples."""

    masked: Evaluation
    baseline: Evaluation

    def __post_init__(self) -> None:
        if self.masked.metric != self.baseline.metric:
            raise SettingsError(
                f"the metric {self.masked.metric} cannot be compared with {self.baseline.metric}: measure both by one."
            )

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

    def choice_test(self, rule: Rule = "sum") -> McNemar | None:
        """Exact McNemar test of the change of the accuracy by a rule; None without choices."""
        after, before = self.masked.hits(rule), self.baseline.hits(rule)
        return mcnemar(after, before) if after else None

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
    examples, metric = task.split(split, limit), task.metric_of(split)
    with view.lock, torch.inference_mode():
        prepared = measured_batches(view, task, examples)
        if kept is not None:
            _check_kept(kept, prepared)
        results = run_all(view, prepared) if kept is None else run_kept(view, kept)
        return gather(view, examples, prepared, results=results, progress=progress, metric=metric)


def evaluate_kept(
    view: View,
    examples: tuple[Example, ...],
    kept: Kept,
    progress: Progress | None = None,
    so_far: Callable[[Evaluation], None] | None = None,
    *,
    metric: Metric = "exact",
) -> Evaluation:
    """As `evaluate` with `kept`, for whoever holds the examples that it was made of: nothing is tokenised again.

    Args:
        view: the view.
        examples: those that `kept` was made of, by `explorer.measure.readers.measured_batches`.
        kept: residual streams.
        progress: told (done, total) batches.
        so_far: given the evaluation of the first examples, whenever there are more of them.
        metric: what counts as right (`Task.metric_of`).

    Raises:
        SettingsError: another number of examples, or residual streams of another model.
    """
    texts = sum(len(batch.measured) for batch in kept.batches)
    wanted = sum(map(len, _texts(examples, kept.batches)))
    if texts != wanted:
        what = "examples" if wanted == len(examples) else "answers and choices"
        raise SettingsError(f"the kept residual streams are of {texts:,} {what}, not of {wanted:,}.")
    with view.lock, torch.inference_mode():
        return gather(
            view, examples, kept.batches, results=run_kept(view, kept), progress=progress, so_far=so_far, metric=metric
        )


def gather(
    view: View,
    examples: tuple[Example, ...],
    prepared: Sequence[Batch],
    results: Iterable[Outcome],
    progress: Progress | None = None,
    so_far: Callable[[Evaluation], None] | None = None,
    *,
    metric: Metric = "exact",
) -> Evaluation:
    """The evaluation of some examples from what their batches gave, which may still be to be run.

    Choices are part of it if the batches measure them.
    """
    tell = None if so_far is None else (lambda found: so_far(evaluation(examples[: len(found)], found, metric)))
    found = collect(view, prepared, results, texts=_texts(examples, prepared), progress=progress, so_far=tell)
    return evaluation(examples, found, metric)


def _texts(examples: Sequence[Example], prepared: Sequence[Batch]) -> Texts:
    """What batches measure of each example."""
    return answers_only(examples) if prepared[0].readers is None else answers_and_choices(examples)


class TextFound(NamedTuple):
    """What a model does on one text after its prompt.

    Attributes:
        loss: summed over its tokens, nats: minus its log-probability.
        exact: whether each token is the most probable one.
        tokens: how many it has.
        said: the most probable tokens, decoded, of an answer; empty for other texts.
    """

    loss: float
    exact: bool
    tokens: int
    said: str


Collected = Sequence[Sequence[TextFound]]  # for each example, of each of its texts


def collect(
    view: View,
    prepared: Sequence[Batch],
    results: Iterable[Outcome],
    texts: Texts,
    progress: Progress | None = None,
    so_far: Callable[[Collected], None] | None = None,
) -> Collected:
    """What batches gave, by example and text; `so_far` is given that of the first examples whenever there are more."""
    bounds = list(pairwise(accumulate(map(len, texts), initial=0)))
    answers = {start for start, _ in bounds}
    found: dict[int, TextFound] = {}
    done: list[list[TextFound]] = []  # the first examples whose texts have all been found
    for batch, result in zip(track(prepared, progress), results, strict=True):
        found |= _texts_found(view.model.tokenizer, batch.measured, result, answers=answers)
        before = len(done)
        while len(done) < len(bounds) and all(place in found for place in range(*bounds[len(done)])):
            done.append([found[place] for place in range(*bounds[len(done)])])
        if so_far is not None and len(done) > before:
            so_far(tuple(done))
    return done


def _texts_found(
    tokenizer: Any, measured: Batch | Readers, result: Outcome, answers: Collection[int]
) -> dict[int, TextFound]:
    """What one batch gave, by the place of each text."""
    tokens: list[list[int]] = [[] for _ in range(len(measured))]
    for row, token in zip(measured.rows.tolist(), result.predicted.tolist(), strict=True):
        tokens[row].append(token)
    each = zip(measured.places.tolist(), result.loss.tolist(), result.correct.tolist(), tokens, strict=True)

    def told(place: int, loss: float) -> bool:
        """Whether the most probable tokens are an answer: of logits that are not numbers they are none."""
        return place in answers and not math.isnan(loss)

    return {
        place: TextFound(loss, exact, len(said), said=decoded(tokenizer, said) if told(place, loss) else "")
        for place, loss, exact, said in each
    }


def evaluation(examples: tuple[Example, ...], found: Collected, metric: Metric) -> Evaluation:
    """The evaluation of examples whose texts begin with the answer and the other choices, or are the answer alone.

    Raises:
        SettingsError: a metric of choices, which were not measured.
    """
    measured = any(one.choices for one in examples) and all(
        len(mine) >= len(one.choices) for one, mine in zip(examples, found, strict=True)
    )
    if metric != "exact" and not measured:
        raise SettingsError(f"the metric {metric} needs choices that were measured: take the metric exact.")
    picked: list[str | None] = []
    picked_mean: list[str | None] = []
    for example, mine in zip(examples, found, strict=True):
        each = zip(dict.fromkeys((example.answer, *example.choices)), mine, strict=False)  # a distractor comes last
        choices = dict(each) if example.choices else {}
        picked.append(pick({text: -one.loss for text, one in choices.items()}) if choices else None)
        picked_mean.append(pick({text: -one.loss / one.tokens for text, one in choices.items()}) if choices else None)
    return Evaluation(
        examples,
        loss=tuple(mine[0].loss for mine in found),
        exact=tuple(mine[0].exact for mine in found),
        answers=tuple(mine[0].said for mine in found),
        metric=metric,
        picked=tuple(picked) if measured else (),
        picked_mean=tuple(picked_mean) if measured else (),
    )


def keep_split(
    view: View, task: Task, split: str = "test", *, limit: int | None = None, progress: Progress | None = None
) -> Kept:
    """Run the view, as it is now, over one split and keep its residual streams for `evaluate`; raises as it does."""
    with view.lock:
        return keep(view, measured_batches(view, task, task.split(split, limit)), progress=progress)


def _check_kept(kept: Kept, prepared: Sequence[Batch]) -> None:
    pairs = zip(kept.batches, prepared, strict=False)
    same = len(kept.batches) == len(prepared) and all(one.same_as(other) for one, other in pairs)
    if not same:
        raise SettingsError("the kept residual streams belong to other examples: keep them again for this split.")
