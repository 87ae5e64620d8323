"""`slices`: on which examples a mask helps and on which it harms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.activations import of_mask
from explorer.actions.choices import Limit, ModelChoice, OfTask, Split, TaskChoice, asked, own_mask, read_mask
from explorer.actions.request import ALONE, Arg, Request, Tools

if TYPE_CHECKING:
    from explorer.measure.evaluate import Comparison
    from explorer.measure.slices import Slice
    from explorer.tasks import Example


@dataclass(frozen=True)
class SlicesResult(OfTask):
    """A mask by slices of a split.

    Attributes:
        mode, gain, mask_digest: null without a mask.
        metric: what accuracy counts.
        columns: what slices can be made by.
        slices: name, `only` (the condition for --only, null where there is none), n, places in the split; baseline and
            masked with accuracy, accuracy_interval, loss and loss_stderr; loss_change with its bootstrap interval;
            repaired, broken; McNemar's p, and p_holm, adjusted for all slices.
        examples: with --examples each one's prompt, answer, losses (loss_before, loss), whether it was and is right,
            and its slice; null without.
    """

    split: str
    mode: str | None
    gain: float | None
    mask_digest: str | None
    removed: int
    n: int
    metric: str
    by: str
    columns: Sequence[str]
    slices: Sequence[Slice]
    examples: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class SliceExamples(Request):
    """Show on which examples a mask helps and on which it harms: accuracy, loss change and flips by slice.

    Slices are by answer, length (letters of the prompt), before (right or wrong in the unpruned model), a column of the
    task (what its template is filled with, such as i and j; further columns of a file), or the two by a condition such
    as prompt~not. Intervals are 95 %, each for its slice alone; p is McNemar's exact test, adjusted for all slices
    (Holm). `--only` asks any command on one slice alone.

    Example: `eigenprune slices --model bundled --task int-mult --mask mask.json --by i`
    """

    command: ClassVar[str] = "slices"

    model: ModelChoice
    task: TaskChoice
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model.")] = None
    by: Annotated[str, Arg("answer, length, before, a column of the task, or a condition such as prompt~not.")] = (
        "answer"
    )
    split: Split = "test"
    limit: Limit = None
    examples: Annotated[bool, Arg("Also list every example with its losses and its slice.")] = False

    def run(self, tools: Tools = ALONE) -> SlicesResult:
        """Measure, and slice.

        Raises:
            ExplorerError: a model, task, mask or column that cannot be had.
        """
        task = self.task.open(self.split, self.limit, tools)
        mask = None if self.mask is None else read_mask(self.mask)
        view = self.model.open_for(task, self.split, self.limit, tools=tools)
        from explorer.masks.apply import apply, empty_mask
        from explorer.measure.evaluate import Comparison, Evaluation, evaluate
        from explorer.measure.slices import columns, slices
        from explorer.spectra.cache import default_cache

        mask = None if mask is None else own_mask(view, mask, tools)
        svds, found = default_cache(tools.notice), list[Evaluation]()
        for side in (empty_mask(view.model), *([] if mask is None else [mask])):
            with tools.working("Measuring the mask" if len(found) else "Measuring the unpruned model") as progress:
                apply(view, side, svds)
                found.append(evaluate(view, task, self.split, limit=self.limit, progress=progress))
        comparison, listed = Comparison(found[-1], found[0]), task.split(self.split, self.limit)
        made = slices(comparison, listed, self.by, seed=task.seed)
        return SlicesResult(
            **asked(view, task),
            **of_mask(mask),
            split=self.split,
            n=len(listed),
            metric=comparison.masked.metric,
            by=self.by,
            columns=columns(listed),
            slices=made,
            examples=_examples(comparison, listed, made) if self.examples else None,
        )


def _examples(found: Comparison, listed: Sequence[Example], made: Sequence[Slice]) -> list[dict[str, Any]]:
    """Every example, in the split's order."""
    slice_of = {place: one.name for one in made for place in one.places}
    before, after = found.baseline, found.masked
    return [
        {
            "prompt": one.prompt,
            "answer": one.answer,
            "loss_before": before.loss[place],
            "loss": after.loss[place],
            "right_before": before.correct[place],
            "right": after.correct[place],
            "slice": slice_of[place],
        }
        for place, one in enumerate(listed)
    ]
