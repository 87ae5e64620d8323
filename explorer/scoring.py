"""Answers beside their alternatives: which choice is the most probable, and by how much the right one leads.

Every alternative (the answer, the choices, the distractor) is scored by the log-probability of all its tokens after
the prompt. Two rules pick a choice: `sum` takes the largest log-probability; `mean` the largest per token, which does
not favour short ones. On a tie the choice that is named first is picked.

An alternative reads the prompt and all of itself but its last token. One that reads the beginning of what another one
reads, as all alternatives of one token do, is scored from the other's run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from explorer.batches import Batch, batches
from explorer.errors import TaskError
from explorer.evaluate import Evaluation, evaluate, gather
from explorer.metrics import Mean, mean, outcome, wilson_interval
from explorer.models import View
from explorer.prefix import all_logits
from explorer.progress import Progress
from explorer.tasks import Example, Task
from explorer.tokens import Encoded, check_different, encode_for

Rule = Literal["sum", "mean"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class Alternatives:
    """Log-probabilities of every alternative of every example.

    Attributes:
        texts: for each example its alternatives: the answer, then other choices, then the distractor, each once.
        logprobs: for each of them log p(alternative | prompt), summed over its tokens, nats.
        tokens: for each of them how many tokens it has.
        exact: loss and exact match of the answers, from the same run.
    """

    examples: tuple[Example, ...]
    texts: tuple[tuple[str, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    exact: Evaluation

    def picked(self, rule: Rule = "sum") -> tuple[str, ...]:
        """The choice that a rule picks, for each example that has choices, in their order.

        A choice whose log-probability is not finite is never picked; "" where that leaves none.
        """
        found = []
        for example, scores in zip(self.examples, self._scores(rule), strict=True):
            if example.choices:
                known = [choice for choice in example.choices if math.isfinite(scores[choice])]
                found.append(max(known, key=scores.__getitem__, default=""))
        return tuple(found)

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
            "lead": self._lead_figures() if self.leads else None,
        }

    def _lead_figures(self) -> dict[str, Any]:
        ahead = share([math.isfinite(lead) and lead > 0 for lead in self.leads])
        found = self.mean_lead
        return {"n": found.n, "value": found.value, "stderr": found.stderr, "ahead": ahead}

    def _scores(self, rule: Rule) -> list[dict[str, float]]:
        found = []
        for texts, logprobs, tokens in zip(self.texts, self.logprobs, self.tokens, strict=True):
            divisors = tokens if rule == "mean" else (1,) * len(tokens)
            scores = [logprob / divisor for logprob, divisor in zip(logprobs, divisors, strict=True)]
            found.append(dict(zip(texts, scores, strict=True)))
        return found


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """A share of examples with n and its 95 % Wilson interval."""
    n, found = len(hits), sum(hits)
    return {"n": n, "accuracy": found / n, "accuracy_interval": list(wilson_interval(found, n))}


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
    spread = tuple(one.answered(text) for one, mine in zip(examples, texts, strict=True) for text in mine)
    encoded = encode_for(view.model, task, spread)
    starts = list(accumulate(map(len, texts), initial=0))
    for one, mine, (i, j) in zip(examples, texts, pairwise(starts), strict=True):
        check_different(one, list(zip(mine, encoded[i:j], strict=True)))
    run = _evaluate(view, task, spread, encoded, progress)
    answers = starts[:-1]  # each example's answer is its first alternative
    exact = Evaluation(
        examples,
        loss=tuple(run.loss[i] for i in answers),
        correct=tuple(run.correct[i] for i in answers),
        answers=tuple(run.answers[i] for i in answers),
    )
    lengths = [len(one.answer) for one in encoded]
    logprobs = tuple(tuple(-loss for loss in run.loss[i:j]) for i, j in pairwise(starts))
    return Alternatives(examples, texts, logprobs, tuple(tuple(lengths[i:j]) for i, j in pairwise(starts)), exact)


def _evaluate(
    view: View, task: Task, spread: tuple[Example, ...], encoded: Sequence[Encoded], progress: Progress | None
) -> Evaluation:
    """`evaluate` of some examples, each row run once for all that read it."""
    rows = _shared_rows(encoded)
    with view.lock, torch.inference_mode():
        prepared = batches(view, task, [spread[leader] for leader in rows])
        readers = [_readers(batch, tuple(rows.values()), encoded) for batch in prepared]
        runs = zip(all_logits(view, prepared), readers, strict=True)
        results = (outcome(logits[sources], wide) for logits, (wide, sources) in runs)
        return gather(view, spread, [wide for wide, _ in readers], results, progress)


def _shared_rows(encoded: Sequence[Encoded]) -> dict[int, list[int]]:
    """The examples to run, each with all that read no more than it does, itself among them."""
    rows: dict[int, list[int]] = {}
    leaders: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place in sorted(range(len(encoded)), key=lambda place: -encoded[place].length):
        prompt, read = encoded[place].prompt, encoded[place].answer[:-1]
        same = (one for one in leaders[prompt] if encoded[one].answer[: len(read)] == read)
        leader = next(same, place)
        if leader == place:
            leaders[prompt].append(place)
        rows.setdefault(leader, []).append(place)
    return dict(sorted(rows.items()))


def _readers(
    batch: Batch, rows: Sequence[Sequence[int]], encoded: Sequence[Encoded]
) -> tuple[Batch, Int[Tensor, " answer_token"]]:
    """All examples that a batch's rows are run for, as a batch, and for each answer token that of the batch to ask."""
    counts = batch.rows.bincount(minlength=len(batch))
    firsts = (counts.cumsum(0) - counts).tolist()
    examples = [(row, reader) for row, place in enumerate(batch.places.tolist()) for reader in rows[place]]
    tokens = [
        (number, firsts[row] + offset, target)
        for number, (row, reader) in enumerate(examples)
        for offset, target in enumerate(encoded[reader].answer)
    ]
    owners, readers = torch.tensor(examples, device=batch.rows.device).unbind(1)
    numbers, sources, targets = torch.tensor(tokens, device=batch.rows.device).unbind(1)
    wide = replace(
        batch,
        tokens=batch.tokens[owners],
        real=batch.real[owners],
        rows=numbers,
        columns=batch.columns[sources],
        targets=targets,
        places=readers,
    )
    return wide, sources


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
