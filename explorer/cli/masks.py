"""The `mask` commands for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from explorer.actions.mask_files import (
    CombineResult,
    DiffMasks,
    DiffResult,
    MaskEntry,
    MaskResult,
    ScaleMask,
    ScaleResult,
    ShowMask,
    SubtractMasks,
)
from explorer.actions.masks import (
    CompareMasks,
    CompareResult,
    DamageResult,
    MeasureDamage,
    RenewMask,
    RenewResult,
    TransferMask,
    TransferResult,
)
from explorer.actions.request import Request
from explorer.cli.console import model_name, say, show_table
from explorer.core.texts import loss_text, percent
from explorer.masks.gain import state_of
from explorer.tasks.metric import METRIC_NAMES

if TYPE_CHECKING:
    from explorer.masks.damage import TaskDamageFigures

SHORT = 15  # letters of a digest that people compare
WORST = 10  # matches shown without --json


def plain(value: object) -> str:
    """Text from a file as one line that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in str(value))


def show_mask(request: ShowMask, result: MaskResult) -> None:
    """Print what a file removes, and where it comes from."""
    rows = [(one["matrix"], one["removed"], _runs(one["indices"])) for one in result.matrices]
    if rows:
        title = f"{result.removed:,} {state_of(result.gain)} ({result.mode})"
        show_table(title, ("matrix", "values", "indices"), rows)
    else:
        say(f"Nothing is removed ({result.mode}).")
    if result.gain:
        say(f"Gain: {result.gain!r}")
    for name, counts in (("Layers", result.layers), ("Kinds", result.kinds)):
        if counts:
            say(f"{name}: " + ", ".join(f"{one} {count:,}" for one, count in counts.items()))
    made = "" if result.dtype is None else f", made in {result.dtype}"
    revision = "" if result.revision is None else f" at {result.revision}"
    say(plain(f"Model: {result.source}{revision}, {result.basis}{made}, {result.model_digest}"))
    say(f"Mask digest: {result.mask_digest}")
    for name, value in {**result.provenance, **result.metrics}.items():
        if name not in ("versions", "derived") and value not in (None, {}, []):
            say(plain(f"{name}: {value}"))
    if derived := result.provenance["derived"]:
        say(plain(_origin(derived)))
    for one in result.versions:
        here = "it is not here" if one["here"] is None else f"here is {one['here']}"
        say(plain(f"Made with {one['package']} {one['made_with']}; {here}."))


def show_diff(request: DiffMasks, result: DiffResult) -> None:
    """Print what two masks share."""
    rows = [(one["matrix"], one["only_first"], one["only_second"], one["both"]) for one in result.matrices]
    if rows:
        show_table("Values", ("matrix", "only in the first", "only in the second", "in both"), rows)
    say(
        f"Only in {plain(request.first)}: {result.only_first:,}; only in {plain(request.second)}: "
        f"{result.only_second:,}; in both: {result.both:,}; Jaccard index {result.jaccard:.3f}"
    )


def show_compared(request: CompareMasks, result: CompareResult) -> None:
    """Print how far two models' masks remove the same directions."""
    rows = [
        (one.matrix, one.first, one.second, _beside(one.left, one.chance_left), _beside(one.right, one.chance_right))
        for one in result.matrices
    ]
    columns = ("matrix", "in the first", "in the second", "overlap of inputs", "overlap of outputs")
    show_table("Removed directions; overlaps are mean cos² (in brackets: by chance)", columns, rows)
    say(
        f"{plain(request.first)}: {result.first.removed:,} of {model_name(result.model)}; {plain(request.second)}: "
        f"{result.second.removed:,} of {model_name(result.second_model)}"
    )


def _beside(overlap: float | None, chance: float | None) -> str:
    return "-" if overlap is None or chance is None else f"{overlap:.3f} ({chance:.3f})"


def show_combined(request: Request, result: CombineResult) -> None:
    """Print what a combined mask removes."""
    if isinstance(request, SubtractMasks):
        what = f"in {plain(request.first)} but not in {plain(request.second)}"
    else:
        what = f"in at least {result.at_least:,} of {len(result.masks):,} masks"
    for one in result.masks:
        say(f"{plain(one.file)}: {one.removed:,} {state_of(result.mask.gain)}")
    say(f"{plain(result.out)}: {result.mask.removed:,} {state_of(result.mask.gain)}, {what}")


def show_scaled(request: ScaleMask, result: ScaleResult) -> None:
    """Print both masks."""
    for one in (result.given, result.mask):
        say(f"{plain(one.file)}: {_held(one)}")


def show_renewed(request: RenewMask, result: RenewResult) -> None:
    """Print whose mask it is now."""
    say(f"{plain(result.out)}: {_held(result.mask)}, {plain(result.mask.model_digest)}")


def show_damage(request: MeasureDamage, result: DamageResult) -> None:
    """Print figures of tasks and text."""
    _show_tasks(f"{model_name(result.model)}, {result.removed:,} {state_of(result.gain)}", result.tasks)
    if result.text is not None:
        from explorer.search.columns import text_sentence  # reads what needs torch

        say(text_sentence(result.text))


def show_transfer(request: TransferMask, result: TransferResult) -> None:
    """Print figures of tasks, and how well the directions match."""
    _show_tasks(f"{model_name(result.model)}, {_held(result.mask)}", result.tasks)
    if result.values is None:
        return
    if result.given.model_digest != result.model_digest:
        say(plain(f"Carried over from {result.given.source} ({result.given.model_digest[:SHORT]}...)"))
    say("Frozen means: " + ("kept" if result.means is None else f"train tokens of {plain(result.means)}"))
    matched = [(one["match"], one) for one in result.values if one["match"] is not None]
    if matched:
        worst = sorted(matched, key=lambda pair: pair[0])[:WORST]
        show_table(
            "Directions that match least",
            ("matrix", "index", "sigma before", "sigma", "match", "nearest"),
            [
                (one["matrix"], one["index"], one["sigma_before"], one["sigma"], match, one["nearest"])
                for match, one in worst
            ],
        )
        say(f"Median match of the directions: {result.median_match:.3f} of 1")
    if result.out is not None:
        say(f"Mask: {result.out}")


def _held(one: MaskEntry) -> str:
    return f"{one.removed:,} {state_of(one.gain)}"


def _show_tasks(title: str, tasks: Sequence[TaskDamageFigures]) -> None:
    """A table of every task with the mask and without it, and what changed."""
    from explorer.search.columns import change_text, figures_text  # reads what needs torch

    by_choice = any(one.baseline.metric != "exact" for one in tasks)
    columns = ("task", "", "accuracy", *(("by", "exact\nmatch") if by_choice else ()), "loss per example")
    rows = []
    for one in tasks:
        for side, figures in (("unpruned", one.baseline), ("with the mask", one.masked)):
            exact = "" if figures.metric == "exact" or figures.exact is None else percent(figures.exact.accuracy)
            counted = (METRIC_NAMES[figures.metric], exact) if by_choice else ()
            rows.append((one.task, side, figures_text(figures), *counted, loss_text(figures.loss, figures.loss_stderr)))
    if rows:
        show_table(title, columns, rows)
    for one in tasks:
        say(f"{one.task}: {change_text(one)}")


def _origin(derived: Mapping[str, Any]) -> str:
    """Which masks it was made from, as one line."""
    masks = ", ".join(f"{digest[:SHORT]}..." for digest in derived["masks"])
    model = "" if derived["model"] is None else f" of model {derived['model'][:SHORT]}..."
    means = "" if derived["means"] is None else f"; frozen means from {derived['means']}"
    return f"Made by {derived['how']} from {masks}{model}{means}"


def _runs(indices: Sequence[int]) -> str:
    """Ascending indices such as `0, 3-5`."""
    pieces: list[list[int]] = []
    for index in indices:
        if pieces and index == pieces[-1][-1] + 1:
            pieces[-1].append(index)
        else:
            pieces.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in pieces)
