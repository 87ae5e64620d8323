"""How the released preset measures: one token of the answer, at the prompt's last position, O frozen by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from explorer.attribution import Options, Scores, ScoringRequest
from explorer.attribution.minibatches import asked_for, check_lengths
from explorer.attribution.released import position_means
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, track
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.masks.positionwise import PositionMeans, frozen_by_position
from explorer.measure.batches import Batch, batches
from explorer.measure.evaluate import Evaluation, gather
from explorer.measure.metrics import run_all
from explorer.models import View
from explorer.search.control_runs import ControlRuns
from explorer.search.controls import OF_THE_MASK, draws
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

Evaluations = Mapping[str, Evaluation]


@dataclass(frozen=True, eq=False)
class Measures:
    """The same examples and the same measure for everything in one run.

    Attributes:
        task: as it is read, with or without BOS.
        options: of the scorer; they say which token is asked for, and whether prompts may have several lengths.
        limit: examples used of the train split, `test_limit` of the two others; None for all.
    """

    view: View
    task: Task
    svds: SvdCache
    options: Options
    limit: int | None
    test_limit: int | None

    @property
    def splits(self) -> dict[str, int | None]:
        """The splits that are measured, with their limits; an empty validation split is left out."""
        limits = {"train": self.limit, "validation": self.test_limit, "test": self.test_limit}
        return {split: limit for split, limit in limits.items() if split != "validation" or self.task.validation}

    def check(self) -> int:
        """Raise what the measurements would raise, before anything slow begins; the number of positions of a prompt."""
        cut = [batch for split in self.splits for batch in self._batches(split)]
        lengths = (torch.cat([batch.positions for batch in cut]) + 1).tolist()
        check_lengths(lengths, self.options)
        return self.options.padded_to or max(lengths)

    @property
    def reads_bos(self) -> bool:
        """Whether prompts are read with a BOS in front."""
        return bool(int(self._batches("test")[0].tokens[0, 0]) == self.view.model.tokenizer.bos_token_id)

    def position_means(self, keys: tuple[MatrixKey, ...]) -> PositionMeans:
        """Frozen means by position of O's values, from the last mini-batch of the train examples."""
        given = batches(self.view, self.task, self.task.split("train", self.limit))
        request = ScoringRequest(
            self.view, self.svds, keys, batches=given, mode="freeze", seed=0, progress=None, options=self.options
        )
        apply(self.view, empty_mask(self.view.model), self.svds)
        return PositionMeans(position_means(request), padded=bool(self.options.padded_to))

    def measure(self, split: str, mask: Mask, means: PositionMeans | None = None, *, exact: bool = False) -> Evaluation:
        """Measure a mask on a split: one answer token, or all if `exact`.

        Matrices that have means by position are frozen to those, if they are given.
        """
        examples, given = self.task.split(split, self.splits[split]), self._batches(split, exact=exact)
        if means is not None and means.of:
            with frozen_by_position(self.view, mask, means, svds=self.svds) as positions, torch.inference_mode():
                return gather(self.view, examples, given, results=(positions.run(self.view, batch) for batch in given))
        apply(self.view, mask, self.svds)
        with torch.inference_mode():
            return gather(self.view, examples, given, results=run_all(self.view, given))

    def compared(
        self, mask: Mask, means: PositionMeans, progress: Progress | None = None
    ) -> tuple[Evaluations, Evaluations, Evaluations]:
        """By split: the unpruned model, as released, and the mask as it is where that is something else."""
        found: tuple[dict[str, Evaluation], ...] = ({}, {}, {})
        for split in track(tuple(self.splits), progress):
            found[0][split] = self.measure(split, mask.without_all())
            found[1][split] = self.measure(split, mask, means)
            if differs(mask, means):
                found[2][split] = self.measure(split, mask)
        return found[0], found[1], found[2]

    def exact(
        self, mask: Mask, means: PositionMeans, before: Evaluations, released: Evaluations, averaged: Evaluations
    ) -> Evaluations:
        """The same on the test split with all answer tokens; what is the same already is not run again."""
        names = {"baseline": before, "released": released, "averaged": averaged}
        names = {name: evaluations for name, evaluations in names.items() if evaluations}
        pairs = zip(self._batches("test", exact=True), self._batches("test"), strict=True)
        if all(torch.equal(one.targets, other.targets) for one, other in pairs):
            return {name: evaluations["test"] for name, evaluations in names.items()}
        masks = {"baseline": (mask.without_all(), None), "released": (mask, means), "averaged": (mask, None)}
        return {name: self.measure("test", *masks[name], exact=True) for name in names}

    def controls(
        self,
        scores: Scores,
        mask: Mask,
        means: PositionMeans,
        test: Evaluation,
        seeds: range,
        names: Sequence[str] = OF_THE_MASK,
        progress: Progress | None = None,
    ) -> dict[str, ControlRuns]:
        """Masks of the same size, chosen without the score and frozen alike, beside the mask on the test split."""
        if not seeds:
            return {}
        masks = [(name, drawn) for name in names for drawn in draws(scores, mask, name, seeds=seeds)]
        runs: dict[str, list[Evaluation]] = {name: [] for name in names}
        for name, drawn in track(masks, progress):
            runs[name].append(self.measure("test", drawn, means))
        return {name: ControlRuns.against(test, tuple(evaluations)) for name, evaluations in runs.items()}

    def _batches(self, split: str, *, exact: bool = False) -> tuple[Batch, ...]:
        given = batches(self.view, self.task, self.task.split(split, self.splits[split]))
        return given if exact else tuple(asked_for(self.view, batch, self.options) for batch in given)


def differs(mask: Mask, means: PositionMeans) -> bool:
    """Whether freezing by position is something else than the mask itself."""
    return any(key in means.of for key in mask.by_matrix)
