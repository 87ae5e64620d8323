"""Answers beside their alternatives: which choice is the most probable, and by how much the right one leads.

Every alternative (the answer, the choices, the distractor) is scored by the log-probability of all its tokens after
the prompt. Two rules pick a choice: `sum` takes the largest log-probability; `mean` the largest per token, which does
not favour short ones. On a tie none is picked (`explorer.measure.metrics.pick`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from explorer.core.errors import TaskError
from explorer.core.progress import Progress
from explorer.measure.evaluate import Evaluation, collect, evaluate, evaluation
from explorer.measure.figures import LeadFigures, ShareFigures
from explorer.measure.metrics import Mean, mean, pick, run_all, share
from explorer.measure.readers import measured_batches
from explorer.models import View
from explorer.tasks import Example, Task
from explorer.tasks.metric import RULES, Rule


@dataclass(frozen=True)
class Alternatives:
    """Log-probabilities of every alternative of every example.

    Attributes:
        texts: for each example its alternatives: the answer, then other choices, then the distractor, each once.
        logprobs: for each of them log p(alternative | prompt), summed over its tokens, nats.
        tokens: for each of them how many tokens it has.
        exact: the evaluation of the examples, from the same run.
    """

    examples: tuple[Example, ...]
    texts: tuple[tuple[str, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    exact: Evaluation

    def picked(self, rule: Rule = "sum") -> tuple[str | None, ...]:
        """The choice that a rule picks, for each example that has choices, in their order; None on a tie."""
        pairs = zip(self.examples, self._scores(rule), strict=True)
        return tuple(
            pick({one: scores[one] for one in example.choices}) for example, scores in pairs if example.choices
        )

    def correct(self, rule: Rule = "sum") -> tuple[bool, ...]:
        """Whether the picked choice is the answer, for each example that has choices."""
        asked = [example for example in self.examples if example.choices]
        return tuple(one == example.answer for one, example in zip(self.picked(rule), asked, strict=True))

    @cached_property
    def leads(self) -> tuple[float, ...]:
        """How far the answer leads: log p(answer) - log p(distractor), nats, for each example that has a distractor.

        For alternatives of one token this is the difference of their logits.
        """
        scores = zip(self.examples, self._scores("sum"), strict=True)
        return tuple(one[e.answer] - one[e.distractor] for e, one in scores if e.distractor is not None)

    @property
    def mean_lead(self) -> Mean:
        """Mean lead of the answer over the distractor, with its standard error."""
        return mean(self.leads)

    def as_dict(self) -> dict[str, Any]:
        """The figures for a report: `choice` per rule, and `lead`; each null if no example has what it needs."""
        return {
            "choice": {rule: share(self.correct(rule)) for rule in RULES} if self.picked() else None,
            "lead": None if (found := self.lead_figures) is None else found.as_dict(),
        }

    @property
    def lead_figures(self) -> LeadFigures | None:
        """How far the answer leads, and how often; None if no example has a distractor."""
        if not self.leads:
            return None
        ahead = ShareFigures.of([math.isfinite(lead) and lead > 0 for lead in self.leads])
        return LeadFigures(n=self.mean_lead.n, value=self.mean_lead.value, stderr=self.mean_lead.stderr, ahead=ahead)

    def _scores(self, rule: Rule) -> list[dict[str, float]]:
        found = []
        for texts, logprobs, tokens in zip(self.texts, self.logprobs, self.tokens, strict=True):
            divisors = tokens if rule == "mean" else (1,) * len(tokens)
            scores = [logprob / divisor for logprob, divisor in zip(logprobs, divisors, strict=True)]
            found.append(dict(zip(texts, scores, strict=True)))
        return found


def has_alternatives(examples: Sequence[Example]) -> bool:
    """Whether any example has choices or a distractor."""
    return any(example.choices or example.distractor is not None for example in examples)


def alternatives(
    view: View, task: Task, split: str = "test", *, limit: int | None = None, progress: Progress | None = None
) -> Alternatives:
    """Score all alternatives of one split of a task with the view as it is now.

    Raises:
        TaskError: an empty split, examples without any alternative, or one that this model cannot take, such as a
            choice whose first letters the tokenizer merges with the prompt, or two that are the same tokens.
    """
    examples = task.split(split, limit)
    if not has_alternatives(examples):
        raise TaskError(f"the {split} split of {task.name} has neither choices nor distractors: measure exact match.")
    texts = tuple(_texts(example) for example in examples)
    with view.lock, torch.inference_mode():
        prepared = measured_batches(view, task, examples, texts=texts)
        found = collect(view, prepared, run_all(view, prepared), texts=texts, progress=progress)
    exact = evaluation(examples, found, task.metric_of(split))
    logprobs = tuple(tuple(-one.loss for one in mine) for mine in found)
    return Alternatives(
        examples, texts, logprobs, tokens=tuple(tuple(one.tokens for one in mine) for mine in found), exact=exact
    )


def measure(
    view: View, task: Task, split: str = "test", *, limit: int | None = None, progress: Progress | None = None
) -> tuple[Evaluation, Alternatives | None]:
    """Loss and exact match, and the alternatives where the examples have any, each sequence run once."""
    if not has_alternatives(task.split(split, limit)):
        return evaluate(view, task, split, limit=limit, progress=progress), None
    found = alternatives(view, task, split, limit=limit, progress=progress)
    return found.exact, found


def _texts(example: Example) -> tuple[str, ...]:
    others = () if example.distractor is None else (example.distractor,)
    return tuple(dict.fromkeys((example.answer, *example.choices, *others)))
