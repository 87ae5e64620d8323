"""`mask damage`, `transfer`, `renew` and `compare`: a mask on its model, on other tasks, and beside a sibling's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    NO_TASKS,
    Limit,
    ModelChoice,
    OfModel,
    Split,
    TasksChoice,
    identity,
    own_mask,
    read_mask,
    refuse_unwritable,
)
from explorer.actions.mask_files import MaskEntry, OneFile, entry
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.transfer import Match
    from explorer.masks.damage import TaskDamageFigures, TextDamageFigures
    from explorer.masks.directions import DirectionOverlap
    from explorer.masks.mask import Mask
    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.tasks import Task

GivenMask = Annotated[Path, Arg("Mask file.")]


@dataclass(frozen=True)
class DamageResult(OfModel):
    """What a mask costs elsewhere.

    Attributes:
        tasks: per task `masked` and `baseline` figures, `loss_change`, `accuracy_test`, `choice_test`.
        text: the perplexities and the `growth` of the perplexity (0.1 = up by 10 %) with its interval; null without a
            text.
    """

    seed: int
    mask_digest: str
    removed: int
    gain: float
    tasks: Sequence[TaskDamageFigures]
    text: TextDamageFigures | None


@dataclass(frozen=True)
class TransferResult(OfModel):
    """A mask on other tasks, or on a sibling of its model: `mask` is what was measured, `given` is the file.

    Attributes:
        means: the task whose train tokens gave the frozen means; null if they were kept.
        values: per value matrix, index, sigma, c, both of before, and with `--base` how it fits the sibling (else
            null): match, |u_i . u'_i| |v_i . v'_i|, 1 for equal directions; nearest, the sibling's index whose
            direction fits best; nearest_match, how well. Null, as `out` is, for a mask of this model that keeps its
            means.
        median_match: null without `--base`.
        tasks: as in `mask damage`.
    """

    seed: int
    given: MaskEntry
    mask: MaskEntry
    means: str | None
    values: Sequence[Mapping[str, Any]] | None
    median_match: float | None
    tasks: Sequence[TaskDamageFigures]
    out: str | None


@dataclass(frozen=True)
class RenewResult(OfModel):
    """A mask file with its model's identity; `checked` is false if nothing in it tells configuration and tokenizer."""

    given: MaskEntry
    mask: MaskEntry
    checked: bool
    out: str


@dataclass(frozen=True, kw_only=True)
class MeasureDamage(Request):
    """Measure a mask on tasks that it was not made for, and on plain text, beside the unpruned model.

    Example: `eigenprune mask damage --model smollm2-135m --mask mask.json --task ioi --task capitals --limit 64`
    """

    command: ClassVar[str] = "mask damage"

    model: ModelChoice
    mask: GivenMask
    tasks: TasksChoice = NO_TASKS
    text: Annotated[
        str | None,
        Arg(
            "Plain text for the perplexity: bundled, none, or the path of a UTF-8 file; if not given, bundled if the "
            "model reads it."
        ),
    ] = None
    tokens: Annotated[int | None, Arg("Tokens of the text to read; 4096.", least=2)] = None
    split: Split = "test"
    limit: Limit = None

    def run(self, tools: Tools = ALONE) -> DamageResult:
        """Measure.

        Raises:
            ExplorerError: a model, mask, task or text that cannot be had, or nothing to measure on.
        """
        tasks = self.tasks.open(self.split, self.limit, tools)
        if not tasks and self.text == "none":
            raise SettingsError("there is nothing to measure the mask on: give a --task, a --text, or both.")
        from explorer.masks.damage import damage
        from explorer.measure.perplexity import TOKENS
        from explorer.spectra.cache import default_cache

        mask = read_mask(self.mask)
        view = self.model.open_for_all(tasks, self.split, self.limit, tools=tools)
        mask = own_mask(view, mask, tools)
        text = plain_text(view, self.text)
        if text is None and not tasks:
            model = self.model.model
            raise SettingsError(f"{model} does not know the words of the bundled text: give a --task, or a --text.")
        with tools.working("Measuring the damage") as progress:
            found = damage(
                view, mask, default_cache(tools.notice), tasks=tasks, text=text, split=self.split, limit=self.limit,
                tokens=self.tokens or TOKENS, progress=progress,
            )  # fmt: skip
        return DamageResult(**identity(view), seed=self.tasks.seed_number, **vars(found.figures))


@dataclass(frozen=True, kw_only=True)
class TransferMask(Request):
    """Measure a mask on other tasks, or on a sibling of its model such as a fine-tune, beside the unpruned model.

    A mask is refused by any model but its own, unless --to-sibling asks for it: then the same indices of the same
    matrices are removed, with the sibling's own singular values, and frozen means from its own train tokens. On its own
    model a mask keeps its frozen means, unless --new-means asks for those of the task.

    Example: `eigenprune mask transfer --model tuned --mask mask.json --task int-mult --to-sibling --base bundled`
    """

    command: ClassVar[str] = "mask transfer"

    model: ModelChoice
    mask: GivenMask
    tasks: TasksChoice
    to_sibling: Annotated[bool, Arg("Carry a mask of another model of the same shapes over to this one.")] = False
    base: Annotated[str | None, Arg("The mask's own model: says how well the directions match.")] = None
    keep_means: Annotated[bool, Arg("Keep frozen means; else the first task's train split gives them.")] = False
    new_means: Annotated[bool, Arg("Of this very model: frozen means from the first task's train split.")] = False
    out: Annotated[Path | None, Arg("Write the transferred mask to this file.")] = None
    split: Split = "test"
    limit: Limit = None

    def run(self, tools: Tools = ALONE) -> TransferResult:
        """Carry it over, and measure.

        Raises:
            ExplorerError: a model, mask or task that cannot be had, options that do not go together, or a file that
                cannot be written.
        """
        self._check()
        tasks = self.tasks.open(self.split, self.limit, tools)
        from explorer.masks.damage import damage
        from explorer.spectra.cache import default_cache

        given, svds = read_mask(self.mask), default_cache(tools.notice)
        view = self.model.open_for_all(tasks, self.split, self.limit, tools=tools)
        given = given if self.to_sibling else own_mask(view, given, tools)
        carried, values = self._carried(view, given, svds, task=tasks[0], tools=tools)
        with tools.working("Measuring") as progress:
            found = damage(view, carried, svds, tasks=tasks, split=self.split, limit=self.limit, progress=progress)
        if self.out is not None:
            carried.save(self.out)
        derived = carried.provenance.derived
        matched = [one["match"] for one in values or () if one["match"] is not None]
        return TransferResult(
            **identity(view),
            seed=self.tasks.seed_number,
            given=MaskEntry(**entry(self.mask, given)),
            mask=MaskEntry(**entry(self.out or self.mask, carried)),
            means=None if derived is None or carried is given else derived.means,
            values=values,
            median_match=median(matched) if matched else None,
            tasks=found.figures.tasks,
            out=None if self.out is None else str(self.out),
        )

    def _check(self) -> None:
        if not self.tasks.task:
            raise SettingsError("`mask transfer` needs --task.")
        if not self.to_sibling and (self.base is not None or self.keep_means):
            raise SettingsError("--base and --keep-means are for a mask of another model: add --to-sibling.")
        if self.to_sibling and self.new_means:
            raise SettingsError("--new-means is for a mask of this model: --to-sibling gives new means by itself.")
        if self.out is not None and not (self.to_sibling or self.new_means):
            raise SettingsError(
                "--out is for a mask that changes: add --new-means, or --to-sibling for another model's."
            )
        if self.out is not None:
            refuse_unwritable(self.out)

    def _carried(
        self, view: View, given: Mask, svds: SvdCache, task: Task, tools: Tools
    ) -> tuple[Mask, list[dict[str, Any]] | None]:
        """The mask that is measured, and what became of every value; None if nothing did."""
        from explorer.experiments.transfer import matches, refreeze, transfer

        if self.to_sibling:
            base = None if self.base is None else replace(self.model, model=self.base).open(replace(tools, view=None))
            with tools.working("Decomposing") as progress:
                found = None if base is None else matches(view, base, given, svds=svds)
                means = None if self.keep_means else task
                carried = transfer(view, given, svds, task=means, limit=self.limit, progress=progress)
            return carried, _values(given, carried, found)
        if not self.new_means:
            return given, None
        with tools.working("Taking the means") as progress:
            carried = refreeze(view, given, svds, task=task, limit=self.limit, progress=progress)
        return carried, _values(given, carried)


@dataclass(frozen=True, kw_only=True)
class RenewMask(Request):
    """Write a mask file of before, which identifies weights alone, with its model's identity.

    Where the file says what it was scored on, its frozen means are computed again first: a model with the same weights
    but another configuration or tokenizer refuses it. A notice says where that cannot be checked.

    Example: `eigenprune mask renew old.mask.json --model bundled --out new.mask.json`
    """

    command: ClassVar[str] = "mask renew"

    file: OneFile
    model: ModelChoice
    out: Annotated[Path | None, Arg("Mask file to write; the given one if not said.")] = None

    def run(self, tools: Tools = ALONE) -> RenewResult:
        """Check it, and write it.

        Raises:
            ExplorerError: a model or mask that cannot be had, another model's mask, or a file that cannot be written.
        """
        place = self.file if self.out is None else self.out
        refuse_unwritable(place)
        from explorer.masks.apply import check_mask
        from explorer.masks.belonging import adopted
        from explorer.spectra.cache import default_cache

        given = read_mask(self.file)
        view, svds, told = self.model.open(tools), default_cache(tools.notice), list[str]()
        with tools.working("Checking the mask") as progress:
            mask = adopted(view, given, svds, notify=told.append)
            check_mask(view, mask, svds, progress=progress)
        for sentence in told:
            tools.notice(sentence)
        mask.save(place)
        return RenewResult(
            **identity(view),
            given=MaskEntry(**entry(self.file, given)),
            mask=MaskEntry(**entry(place, mask)),
            checked=not told,
            out=str(place),
        )


@dataclass(frozen=True)
class CompareResult(OfModel):
    """Two masks of two models of one shape, matrix by matrix; `second` and `second_model` are the other side's.

    Attributes:
        matrices: per matrix how many directions each mask removes (`first`, `second`), and the overlap of their inputs
            (`left`) and outputs (`right`) beside chance (`explorer.masks.directions`); null where one removes none.
    """

    second_model: str
    second_model_digest: str
    first: MaskEntry
    second: MaskEntry
    matrices: Sequence[DirectionOverlap]


@dataclass(frozen=True, kw_only=True)
class CompareMasks(Request):
    """Compare the directions that two masks of two models of one shape remove, such as of a model and its fine-tune.

    An index means a direction of one model only: `mask diff` is for masks of one model, this is for masks of two.
    Overlaps are mean squared cosines between what is removed, from 0 to 1, beside what random directions give.

    Example: `eigenprune mask compare a.mask.json b.mask.json --model bundled --second-model ./finetune`
    """

    command: ClassVar[str] = "mask compare"

    first: OneFile
    second: OneFile
    model: ModelChoice
    second_model: Annotated[str, Arg("The second mask's model; its basis is the first one's.")]

    def run(self, tools: Tools = ALONE) -> CompareResult:
        """Open one model after the other.

        Raises:
            ExplorerError: a model or mask that cannot be had, another model's mask, or matrices of two shapes.
        """
        from explorer.masks.directions import overlap_of, removed_directions
        from explorer.spectra.cache import default_cache

        masks = read_mask(self.first), read_mask(self.second)
        svds, found, about = default_cache(tools.notice), [], []
        for mask, other in zip(masks, (None, self.second_model), strict=True):
            choice = self.model if other is None else replace(self.model, model=other, adapter=None)
            view = choice.open(tools if other is None else replace(tools, view=None))
            with tools.working("Decomposing") as progress:
                found.append(removed_directions(view, own_mask(view, mask, tools), svds, progress=progress))
            about.append(identity(view))
            del view  # before the next one, so that two are never in memory
        a, b = found
        return CompareResult(
            **about[0],
            second_model=about[1]["model"],
            second_model_digest=about[1]["model_digest"],
            first=MaskEntry(**entry(self.first, masks[0])),
            second=MaskEntry(**entry(self.second, masks[1])),
            matrices=[overlap_of(key, a.get(key), b.get(key)) for key in sorted({*a, *b})],
        )


def plain_text(view: View, name: str | None) -> str | None:
    """The text to measure damage on: the bundled one if the model reads it, unless a file, it or none is asked for."""
    from explorer.measure.perplexity import own_text, read_text

    if name is None:
        return own_text(view.model.tokenizer)
    if name == "none":
        return None
    return read_text() if name == "bundled" else read_text(Path(name))


def _values(given: Mask, carried: Mask, found: Sequence[Match | None] | None = None) -> list[dict[str, Any]]:
    return [
        {
            "matrix": new.matrix,
            "index": new.index,
            "sigma": new.sigma,
            "sigma_before": old.sigma,
            "c": new.c,
            "c_before": old.c,
            "match": None if match is None else match.match,
            "nearest": None if match is None else match.nearest,
            "nearest_match": None if match is None else match.nearest_match,
        }
        for new, old, match in zip(carried.removed, given.removed, found or (None,) * len(given), strict=True)
    ]
