"""`direction` for people: the card of one singular direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from explorer.actions.direction import DirectionResult, ShowDirection
from explorer.cli.console import say, show_table
from explorer.core.texts import loss_text, percent

if TYPE_CHECKING:
    from explorer.measure.contexts import Context, DirectionContexts

SHOWN_FLIPS = 20
QUARTILES = (0, 8, 16, 24, 32)  # of the quantiles


def show(request: ShowDirection, result: DirectionResult) -> None:
    """Print the card."""
    _show_place(result)
    _show_effects(result)
    for one in result.tokens:
        rows = [
            (repr(plus.text), plus.value, repr(minus.text), minus.value)
            for plus, minus in zip(one.plus, one.minus, strict=True)
        ]
        show_table(f"{one.vector} {one.side} ({one.kind})", ("most positive", "value", "most negative", "value"), rows)
    for found in result.contexts:
        _show_contexts(found)
    _show_flips(result)
    _show_masks(result)
    for relation in result.similar:
        show_table(
            f"{relation.relation}: the most similar of {relation.compared:,} directions "
            f"(chance: {relation.chance:.3f})",
            ("direction", "cosine"),
            [(f"{one.matrix} {one.index}", f"{one.cosine:+.3f}") for one in relation.nearest],
        )


def _show_place(result: DirectionResult) -> None:
    place, score = result.place, result.score
    block = f", in the degenerate block {place.block[0]} to {place.block[-1]}" if place.block else ""
    say(
        f"{result.matrix} value {result.index} of {place.rank}: singular value {place.sigma:.6g}, "
        f"{percent(place.energy)} of the squared norm{block}{', numerically zero' if place.null else ''}"
    )
    if (label := result.label) is not None:
        say(f"Called {label.label!r}. {label.note}".rstrip() if label.label else f"Note: {label.note}")
    doubt = " (its sign is in doubt)" if score.uncertain else ""
    say(f"Score {loss_text(score.score, score.stderr, signed=True)}{doubt}, frozen mean {score.c:.6g}")


def _show_effects(result: DirectionResult) -> None:
    rows = [(one.task, loss_text(one.exact, one.stderr, signed=True), one.n) for one in result.effects.tasks]
    show_table(f"Removed alone ({result.mode}), train examples", ("task", "change of the loss", "n"), rows)
    gains = [(f"{one.gain:g}", loss_text(one.change, one.stderr, signed=True)) for one in result.effects.gains]
    show_table("Gain curve: 0 removes it, 1 changes nothing", ("gain", "change of the loss"), gains)


def _show_contexts(found: DirectionContexts) -> None:
    quartiles = " / ".join(f"{found.quantiles[place]:.4g}" for place in QUARTILES)
    say(
        f"Contexts in {found.corpus} ({found.tokens:,} tokens): x . u has mean {found.mean:.4g}, deviation "
        f"{found.deviation:.4g}; smallest, quartiles, largest: {quartiles}"
    )
    for name, some in (("largest", found.largest), ("smallest", found.smallest), ("random", found.random)):
        rows = [(f"{one.value:+.4g}", f"{one.written:+.4g}", marked(one)) for one in some]
        if rows:
            show_table(f"{found.corpus}, {name}", ("x . u", "written", "context"), rows)


def marked(one: Context) -> str:
    """A context in a line, its token in brackets, line breaks as signs."""
    start = "" if one.begins else "… "
    text = "".join(f"[{token}]" if place == one.at else token for place, token in enumerate(one.tokens))
    return start + text.replace("\r", "").replace("\n", "⏎")


def _show_flips(result: DirectionResult) -> None:
    flips = result.flips
    say(
        f"Without it, accuracy on {flips.n:,} {flips.split} examples goes from {percent(flips.accuracy_before)} to "
        f"{percent(flips.accuracy_after)}, the loss changes by "
        f"{loss_text(flips.loss_change, flips.loss_stderr, signed=True)}; {len(flips.examples):,} examples flip"
    )
    rows: Sequence[tuple[str, ...]] = [
        (one.prompt, one.answer, one.before, one.after, "repaired" if one.repaired else "broken")
        for one in flips.examples[:SHOWN_FLIPS]
    ]
    if rows:
        show_table("Flips", ("prompt", "answer", "before", "without it", ""), rows)


def _show_masks(result: DirectionResult) -> None:
    library = result.library
    say(f"{len(library.holding):,} of the library's {library.masks:,} masks of this model hold it")
    rows = [(one.name, one.id, one.removed, one.gain, one.strategy or "") for one in library.holding]
    if rows:
        show_table("Masks", ("name", "id", "removed", "gain", "strategy"), rows)
