"""What a task is: examples in three disjoint splits. Text only."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from explorer.core.errors import TaskError
from explorer.core.files import digest
from explorer.tasks.cases import SPLIT_RULES, USUAL_CASES, Cases, Splits, split_items, split_related
from explorer.tasks.framing import AS_USUAL, Framing
from explorer.tasks.metric import AskedMetric, Metric, accuracy_name

SPLITS = ("train", "validation", "test")
FEW = 0.25  # of the answers: so many or fewer that begin otherwise are probably slips


@dataclass(frozen=True, slots=True)
class Origin:
    """Which case an example asks, in whatever wording.

    Attributes:
        item: equal exactly for examples that ask the same.
        twins: equal for cases that share an answer by symmetry; the item itself where there are none.
    """

    item: str
    twins: str


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer text that follows it directly (with its leading space, if it has one).

    Attributes:
        choices: the answers among which the most probable one is taken, the right one among them; empty if it is open.
        distractor: one wrong answer to compare the right one with; None if there is none.
        shown: in a chat, the turns before this one as (prompt, answer).
        origin: which case it asks, if its prompt does not say that.
        columns: what else is known of it, as (name, text): no model reads that, and slices are made of it.

    Raises:
        TaskError: the answer is not among the choices, a choice comes twice, or the distractor is the answer.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()
    distractor: str | None = None
    shown: tuple[tuple[str, str], ...] = ()
    origin: Origin | None = field(default=None, compare=False)
    columns: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.choices:
            self._check_choices()
        if self.distractor == self.answer:
            raise TaskError(f"the distractor {self.answer[:40]!r} is the answer itself: give a wrong answer.")

    def _check_choices(self) -> None:
        shown = ", ".join(map(repr, self.choices))[:80]
        if self.answer not in self.choices:
            raise TaskError(
                f"answer {self.answer[:40]!r} is not among the choices {shown}: "
                "write it exactly as one of them, its leading space included."
            )
        if len(set(self.choices)) < len(self.choices):
            raise TaskError(f"a choice comes twice in {shown}: name each one once.")

    def answered(self, text: str) -> Example:
        """The same prompt with another answer and no alternatives."""
        return Example(self.prompt, text, shown=self.shown, origin=self.origin)

    @property
    def case(self) -> Origin:
        """Which case it asks; without an origin, twins are prompts of the same words and the same answer."""
        if self.origin is not None:
            return self.origin
        return Origin(same_text(self.prompt), f"{reordered(self.prompt)}\n{self.answer}")

    def asked(self, prompt: str) -> Example:
        """The same case in other words."""
        return replace(self, prompt=prompt, origin=self.case)


@dataclass(frozen=True)
class Wording:
    """Cases in one prompt template."""

    template: str
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Task:
    """Examples to score on (`train`), to choose on (`validation`) and to report on (`test`).

    Attributes:
        name: the name in the TASKS table, or the file it was read from.
        bos: whether the task wants a beginning-of-sequence token in front; None: if the tokenizer puts one there by
            itself; `framing` may say otherwise.
        seed: seed of the split.
        shots: how many train examples stand in front of every prompt; the prompts already hold them, or `shown` does.
        template: the prompt template if it is not the task's own; the prompts are already made from it.
        cases: how the splits were made, and in how many wordings; the examples already are what that says.
        framing: what stands around the prompts, BOS and chat; the prompts hold nothing of it.
        metric: what counts as right. `exact`: every answer token is the most probable one. `choice`: the answer has the
            largest summed log-probability among the choices; `choice-mean`: the largest per token. `auto`: `choice` in
            splits whose examples all have choices, `exact` in others, also where only some have.
        unseen: the test cases in each of the templates that no search uses; no part of what the task asks.
    """

    name: str
    description: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    seed: int
    bos: bool | None = True
    shots: int = 0
    template: str | None = None
    framing: Framing = AS_USUAL
    metric: AskedMetric = "auto"
    cases: Cases = USUAL_CASES
    unseen: tuple[Wording, ...] = field(default=(), compare=False, repr=False)

    @property
    def searchable(self) -> Task:
        """What a search may read: all but the test split, in whatever wording."""
        return replace(self, test=(), unseen=())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the examples of all splits and their framing: equal exactly when the task asks the same.

        Shots and template are covered because the prompts are made with them. The metric counts only where it is not
        the one that `auto` gives.
        """
        splits = [
            [(one.prompt, one.answer, one.choices, one.distractor) for one in getattr(self, split)] for split in SPLITS
        ]
        framing = self.around
        asked: list[Any] = [{"auto": True, "never": False}.get(framing.bos, framing.bos), splits]
        if framing.chat:
            shown = [[one.shown for one in getattr(self, split)] for split in SPLITS]
            asked.append([framing.bos, framing.system, shown])
        if any(self._usual(split) != self._asked(split) for split in SPLITS if getattr(self, split)):
            asked.append(self.metric)
        return digest([json.dumps(asked).encode()])

    @property
    def around(self) -> Framing:
        """The framing with the task's own word on BOS: how its examples are encoded."""
        return self.framing.of_task(bos=self.bos)

    def framed(self, framing: Framing) -> Task:
        """The same examples in another framing; raises TaskError for one with shots if it is a chat and was none."""
        if framing == self.framing:
            return self
        if self.shots and framing.chat != self.framing.chat:
            raise TaskError(f"{self.name} has {self.shots} shots already: start from the task without shots.")
        return replace(self, framing=framing)

    def metric_of(self, split: str) -> Metric:
        """What counts as right in a split.

        Raises:
            TaskError: a choice is asked for, and an example of the split has none.
        """
        metric = self._asked(split)
        if metric != "exact" and self._usual(split) == "exact":
            examples = getattr(self, split)
            open_ended = sum(not one.choices for one in examples)
            raise TaskError(
                f"the metric {metric} needs choices, and {open_ended:,} of {len(examples):,} {split} examples of "
                f"{self.name} have none: take the metric exact, or give each example its choices."
            )
        return metric

    def accuracy_name(self, split: str) -> str:
        """`accuracy`, with what counts as right in a split where it has choices: `accuracy (choice)`."""
        return accuracy_name(self.metric_of(split), choices=any(one.choices for one in getattr(self, split)))

    def _asked(self, split: str) -> Metric:
        return self._usual(split) if self.metric == "auto" else self.metric

    def _usual(self, split: str) -> Metric:
        examples = getattr(self, split)
        return "choice" if examples and all(one.choices for one in examples) else "exact"

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What is probably not meant in its texts, in sentences: a model reads every blank."""
        examples = [example for split in SPLITS for example in getattr(self, split)]
        answers = [answer for example in examples for answer in (example.choices or (example.answer,))]
        doubled = [one for one in examples if one.prompt[-1:].isspace() and one.answer[:1].isspace()]
        trailing = [one for one in examples if one.answer[-1:].isspace()]
        returns = [one for one in examples if "\r" in one.prompt or "\r" in one.answer]
        return tuple(
            sentence
            for sentence in (
                _uneven(answers),
                _counted(doubled, examples, "end with a blank, and their answers begin with one: the model reads both"),
                _counted(
                    trailing, examples, "have an answer that ends with a blank or a line break, which has to be said"
                ),
                _counted(returns, examples, "hold carriage returns (\\r), as Windows ends lines: the model reads them"),
            )
            if sentence
        )

    def split(self, name: str, limit: int | None = None) -> tuple[Example, ...]:
        """The examples of one split, or its first `limit` (splits are shuffled, so that is a random sample).

        Raises:
            TaskError: no such split, an empty one, or a limit below 1.
        """
        if name not in SPLITS:
            rule = f"; for the {name} splits give --splits {name}" if name in SPLIT_RULES else ""
            raise TaskError(f"{name!r} is not a split: choose one of {', '.join(SPLITS)}{rule}.")
        if limit is not None and limit < 1:
            raise TaskError(f"a limit of {limit} examples leaves nothing to measure: give 1 or more.")
        examples: tuple[Example, ...] = getattr(self, name)
        if not examples:
            raise TaskError(f"the {name} split of {self.name} is empty: choose another split or add examples to it.")
        return examples[:limit]

    def seen(self, name: str) -> int:
        """How many examples of a split have a prompt that an earlier split has, too, compared as `same_text`.

        0 for every built-in task; a file that names its splits can be otherwise.
        """
        place = SPLITS.index(name)
        earlier = {same_text(one.prompt) for split in SPLITS[:place] for one in getattr(self, split)}
        return sum(same_text(one.prompt) in earlier for one in getattr(self, name))


def _uneven(answers: Sequence[str]) -> str | None:
    """Says which few answers do not begin as the others do, with a space or without."""
    spaced = [answer for answer in answers if answer.startswith(" ")]
    bare = [answer for answer in answers if not answer.startswith(" ")]
    few, begin = (bare, "without the leading space") if len(bare) < len(spaced) else (spaced, "with a leading space")
    if not few or len(few) > max(1, FEW * len(answers)) or len(answers) < 3:
        return None
    others = "that the others have" if few is bare else "that the others do not have"
    verb = "begins" if len(few) == 1 else "begin"
    return f"{len(few):,} of {len(answers):,} answers {verb} {begin} {others}, such as {few[0][:40]!r}."


def _counted(some: Sequence[Example], examples: Sequence[Example], what: str) -> str | None:
    if not some:
        return None
    return f"{len(some):,} of {len(examples):,} prompts {what}; the first is {some[0].prompt[-40:]!r}."


def split_examples(examples: Sequence[Example], seed: int, cases: Cases = USUAL_CASES) -> Splits[Example]:
    """Examples of a file in splits; those whose prompts read the same stay together.

    With twins, those with the same words in another order do, too, and those of one origin.

    Raises:
        TaskError: operands or wordings are to be held out, which a file has not, or its answers are too few.
    """
    if cases.hold_out == "answers":
        return split_related(examples, seed, lambda one: (("answer", one.answer), *_together(one)), what="answers")
    if cases.hold_out is not None:
        raise TaskError(f"a file does not say what its {cases.hold_out} are: hold out answers, or nothing.")
    if cases.splits == "published":
        return split_items(examples, seed, lambda example: same_text(example.prompt))
    if any(example.origin is not None for example in examples):
        return split_related(examples, seed, _together, what="groups")
    return split_items(examples, seed, lambda example: reordered(example.prompt))


def _together(example: Example) -> tuple[tuple[str, str], ...]:
    """What examples share that stay together."""
    own = ("words", reordered(example.prompt))
    return (own,) if example.origin is None else (own, ("twins", example.origin.twins))


def reordered(text: str) -> str:
    """The words of a text in an order of their own: equal for `3 * 11 =` and `11 * 3 =`."""
    return " ".join(sorted(same_text(text).split()))


def same_text(text: str) -> str:
    """The text as all that reads the same has it (Unicode's NFKC): `é` in one character or in two, `２` or `2`."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)
