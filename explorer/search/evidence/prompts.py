"""Baselines that change the prompt and no weight: solved examples in front of it, and the model's chat template."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean

from explorer.core.progress import Progress, track
from explorer.masks.apply import apply
from explorer.measure.evaluate import Evaluation
from explorer.search.evidence.claim import Claim, hits
from explorer.search.evidence.figures import RivalFigures
from explorer.tasks import Framing, Task, with_shots

DRAWS = 5  # of the shown examples


def shots(claim: Claim, progress: Progress | None = None, *, count: int) -> RivalFigures:
    """The unpruned model with `count` solved train examples in front, in several draws; and the mask with the same.

    Raises:
        TaskError: the task has shots already, too few train examples, or prompts that become too long.
    """
    return _asked(
        claim, [drawn(claim.task, count, seed) for seed in range(DRAWS)], "other shown examples", progress=progress
    )


def drawn(task: Task, count: int, seed: int) -> Task:
    """The task with `count` train examples in front; which ones is drawn by seed, those of seed 0 are the first."""
    order = list(task.train)
    if seed:
        random.Random(seed).shuffle(order)
    return with_shots(replace(task, train=tuple(order)), count)


def chat(claim: Claim, progress: Progress | None = None) -> RivalFigures:
    """The unpruned model asked through its tokenizer's chat template; and the mask likewise.

    Raises:
        TaskError: no chat template, or a task with shots.
    """
    if claim.task.framing.chat:
        return RivalFigures(role="baseline", why="The task is asked as a chat already.")
    framing = Framing(claim.task.framing.bos, chat=True)
    return _asked(claim, [claim.task.framed(framing)], "", progress=progress)


def _asked(claim: Claim, tasks: list[Task], note: str, progress: Progress | None) -> RivalFigures:
    before: list[Evaluation] = []
    after: list[Evaluation] = []
    for task in track(tasks, progress):
        claim.unprune()
        before.append(claim.test(task))
        apply(claim.view, claim.mask, claim.problem.svds)
        after.append(claim.test(task))
    claim.unprune()
    return RivalFigures(
        role="baseline", accuracy=tuple(one.accuracy for one in before),
        loss=tuple(one.mean_loss.value for one in before), hits=hits(tuple(before)),
        masked=tuple(one.accuracy for one in after),
        note=f"{len(tasks)} draws of {note}; with the mask {100 * fmean(one.accuracy for one in after):.1f} %."
        if note
        else f"With the mask {100 * after[0].accuracy:.1f} %.",
    )  # fmt: skip
