"""A mask that is claimed to do something, with all that it was found with: what nulls and baselines are measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TypeVar

from pydantic import TypeAdapter
from torch import Tensor

from explorer.core.files import digest
from explorer.core.finite import expm1
from explorer.core.keys import MatrixKey
from explorer.core.measuring import evidence_digest
from explorer.core.written import JsonRecord
from explorer.masks.apply import apply
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.perplexity import Perplexity, perplexity
from explorer.models import View
from explorer.models.matrices import read_base, read_base_bias, substituted
from explorer.search.journal import Journal
from explorer.search.problem import Problem, Search
from explorer.tasks import Example, Task, seen

RecordT = TypeVar("RecordT", bound=JsonRecord)
Weights = Mapping[MatrixKey, tuple[Tensor, Tensor | None]]  # of stacked matrices: W [d_in, d_out] and b [d_out]


@dataclass(frozen=True, eq=False)
class Claim:
    """A mask beside the unpruned model, and the search that found it.

    Attributes:
        problem: whose search is over; its view is free, and is left unpruned.
        task: the whole task.
        strategy: what chose the mask.
        mask: with at least one value.
        comparison: the mask and the unpruned model on the test split.
        limit: test examples at most; None for all.
        text: plain text to measure the damage on; None for none.
        read: the examples that the search has read.
    """

    problem: Problem
    task: Task
    strategy: Search
    mask: Mask
    comparison: Comparison
    limit: int | None
    text: str | None
    read: tuple[Example, ...]

    @property
    def view(self) -> View:
        """The search's view."""
        return self.problem.view

    @property
    def examples(self) -> tuple[Example, ...]:
        """The test examples."""
        return self.comparison.masked.examples

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """Which cluster each test example is of: twins are one."""
        return tuple(one.case.twins for one in self.examples)

    @cached_property
    def new(self) -> tuple[int, ...]:
        """Places of the test examples that are new to the search."""
        return seen(self.read, self.examples).new_cases

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the test examples that are compared: the new ones; all of them if none is."""
        return self.new or tuple(range(len(self.examples)))

    @cached_property
    def text_before(self) -> Perplexity | None:
        """The unpruned model on the text."""
        if self.text is None:
            return None
        self.unprune()
        return perplexity(self.view, self.text)

    def unprune(self) -> None:
        """Take whatever is on the view off it."""
        apply(self.view, self.problem.mask(), self.problem.svds)

    def test(self, task: Task | None = None) -> Evaluation:
        """The view as it is now on the test split of the task, or of the same task asked in another way."""
        return evaluate(self.view, task or self.task, "test", limit=self.limit)

    def growth(self) -> float | None:
        """Of the perplexity of the text, for the view as it is now; `text_before` must be known. None without text."""
        if self.text is None or self.text_before is None:
            return None
        return expm1(perplexity(self.view, self.text).loss - self.text_before.loss)

    @contextmanager
    def running(self, weights: Weights) -> Iterator[None]:
        """The unpruned view with other weights in some stacked matrices, for the time of the block."""
        self.unprune()
        detached = {site: (W.detach(), None if b is None else b.detach()) for site, (W, b) in weights.items()}
        with substituted(self.view, detached):
            yield

    def part(self, name: str) -> Journal | None:
        """A journal within this search's evidence; None where nothing is kept."""
        journal = self.problem.journal
        return None if journal is None else journal.beside(f"evidence {name}")

    def remembered(self, name: str, kind: type[RecordT], asked: object, compute: Callable[[], RecordT]) -> RecordT:
        """Figures from the journal if the same was found in an earlier run; else they are computed and recorded.

        Args:
            name: what they are of; equal names share a place in the journal.
            kind: their class.
            asked: what decides them beside the claim, with a `repr` that shows all of it.
            compute: finds them.
        """
        journal = self.part(name)
        if journal is None:
            return compute()
        question = digest([repr((self._identity, asked, evidence_digest())).encode()])
        reader = TypeAdapter(kind)
        known = journal.next("evidence", question)
        if known is not None:
            return reader.validate_json(known)
        found = compute()
        journal.add("evidence", question, json.dumps(json.loads(found.to_json())).encode())
        return found

    @cached_property
    def _identity(self) -> tuple[object, ...]:
        text = None if self.text is None else digest([self.text.encode()])
        return self.problem.view.model.as_loaded, self.task.digest, self.mask.digest, self.limit, text


def base(view: View, site: MatrixKey) -> tuple[Tensor, Tensor]:
    """The unpruned weight and bias of a stacked matrix; a bias of zero where it has none."""
    W, b = read_base(view, site).detach(), read_base_bias(view, site)
    return W, W.new_zeros(W.shape[1]) if b is None else b.detach()


def hits(runs: tuple[Evaluation, ...]) -> tuple[float, ...]:
    """For each example the share of the runs that are right."""
    return tuple(fmean(map(float, each)) for each in zip(*(run.correct for run in runs), strict=True))
