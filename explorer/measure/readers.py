"""Batches on which several texts are measured per prompt: the answer and what it is chosen among.

A text reads the prompt and all of itself but its last token. One that reads the beginning of what another one reads, as
all texts of one token do, is measured on the other's row, unless the model turns positions otherwise at that length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import torch

from explorer.measure.batches import Batch, Readers, batches
from explorer.measure.tokens import Encoded, check_different, encode_for
from explorer.models import View
from explorer.tasks import Example, Task

Texts = tuple[tuple[str, ...], ...]  # for each example what is measured after its prompt, its answer first


def answers_only(examples: Sequence[Example]) -> Texts:
    """Of each example its answer alone."""
    return tuple((one.answer,) for one in examples)


def answers_and_choices(examples: Sequence[Example]) -> Texts:
    """Of each example its answer, then its other choices."""
    return tuple(tuple(dict.fromkeys((one.answer, *one.choices))) for one in examples)


def measured_batches(
    view: View, task: Task, examples: Sequence[Example], texts: Texts | None = None, *, portion: int | None = None
) -> tuple[Batch, ...]:
    """Cut examples into batches on which their texts are measured, places counted through all texts.

    Args:
        view: the view that will run them.
        task: the task.
        examples: the examples.
        texts: what is measured of each; its answer and its choices if not given.
        portion: batch the first so many examples, then the next, and so on (see `explorer.measure.batches.batches`).

    Raises:
        TaskError: no examples, one that is longer than the model reads, a text that merges with the prompt, or two of
            one example that are the same tokens.
    """
    texts = answers_and_choices(examples) if texts is None else texts
    portions = [place // (portion or len(examples)) for place, mine in enumerate(texts) for _ in mine]
    spread = [one.answered(text) for one, mine in zip(examples, texts, strict=True) for text in mine]
    if len(spread) == len(examples):  # answers only
        return batches(view, task, examples, portions=portions)
    encoded = encode_for(view.model, task, spread)
    each = zip(examples, texts, pairwise(accumulate(map(len, texts), initial=0)), strict=True)
    for one, mine, (i, j) in each:
        check_different(one, list(zip(mine, encoded[i:j], strict=True)))
    served = _served(
        encoded, [(portion, view.side(one.length)) for portion, one in zip(portions, encoded, strict=True)]
    )
    leaders = list(served)
    cut = batches(
        view,
        task,
        [spread[leader] for leader in leaders],
        portions=[portions[leader] for leader in leaders],
        encoded=[encoded[leader] for leader in leaders],
    )
    return tuple(_with_readers(batch, list(served.values()), encoded) for batch in cut)


def _served(encoded: Sequence[Encoded], apart: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    """The texts to run, each with all of the same `apart` that read no more than it does, itself among them."""
    served: dict[int, list[int]] = {}
    leaders: dict[tuple[tuple[int, int], tuple[int, ...]], list[int]] = defaultdict(list)
    for place in sorted(range(len(encoded)), key=lambda place: -encoded[place].length):
        read, rivals = encoded[place].answer[:-1], leaders[apart[place], encoded[place].prompt]
        same = (rival for rival in rivals if encoded[rival].answer[: len(read)] == read)
        leader = next(same, place)
        if leader == place:
            rivals.append(place)
        served.setdefault(leader, []).append(place)
    return dict(sorted(served.items()))


def _with_readers(batch: Batch, served: Sequence[Sequence[int]], encoded: Sequence[Encoded]) -> Batch:
    """A batch of leaders with all texts that its rows serve."""
    counts = batch.rows.bincount(minlength=len(batch))
    firsts = (counts.cumsum(0) - counts).tolist()
    texts = [(row, text) for row, place in enumerate(batch.places.tolist()) for text in served[place]]
    tokens = [
        (firsts[row] + offset, number, target)
        for number, (row, text) in enumerate(texts)
        for offset, target in enumerate(encoded[text].answer)
    ]
    sources, rows, targets = torch.tensor(tokens, device=batch.rows.device).unbind(1)
    places = torch.tensor([text for _, text in texts], device=batch.rows.device)
    return replace(batch, readers=Readers(sources, rows, targets, places=places))
