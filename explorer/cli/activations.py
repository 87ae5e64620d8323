"""`activations`: what happens inside on one prompt, unpruned and with a mask."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.activation_report import (
    ActivationsReport,
    LensToken,
    Pattern,
    WrittenValue,
    lens,
    next_tokens,
    pattern,
    written_values,
)
from explorer.cli.console import notice, percent, say, show_json, show_table, working
from explorer.cli.setup import identity, open_view, own_mask
from explorer.core.errors import SettingsError
from explorer.tasks import Example, Framing, as_framing

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.models import View

HEAD = re.compile(r"L(\d{1,4})(?:\.H(\d{1,4}))?", re.ASCII)
ACROSS = 8  # columns of numbers that fit into a terminal
Head = tuple[int, int | None]


def activations(
    model: options.ModelName,
    prompt: Annotated[str, typer.Option("--prompt", help="The text that the model reads.")],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Mask file; without it the unpruned model alone is read.")
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option("--answer", help="What should follow: its first token comes first in the logit lens."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", help="Also the attention of L0.H3, or of all query heads of L0; repeatable."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Most likely next tokens, and tokens of the lens.")] = 5,
    values: Annotated[
        int, typer.Option("--values", min=0, help="Removed values shown, the most changed; --json has all.")
    ] = 3,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    turn: Annotated[
        list[str] | None,
        typer.Option("--turn", help="An earlier turn of the chat, the user's or the assistant's by turns; repeatable."),
    ] = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Run one prompt through the unpruned model and through a mask, and show what differs inside.

    Most likely next tokens; the logit lens per layer; how far the residual stream moves per layer and token, and the
    first block that differs; how much of its attention each head moves; what each removed value wrote per token.

    Example: `eigenprune activations --model bundled --mask mask.json --prompt "3 x 4 =" --answer " 12"`
    """
    heads = [_head(text) for text in head or ()]
    from explorer.masks.mask import load_mask

    given = None if mask is None else load_mask(mask)
    framing = as_framing(bos, chat=chat, system=system)
    asked = Example(prompt, "", shown=_turns(turn or [], framing))
    view = open_view(model, dtype, device, basis)
    given = None if given is None else own_mask(view, given)
    report = _report(view, asked, given, answer, heads, top, framing)
    if json:
        return show_json(report)
    _show(report, None if given is None else given.state, values)


def _turns(texts: Sequence[str], framing: Framing) -> tuple[tuple[str, str], ...]:
    """Earlier turns in pairs."""
    if texts and not framing.chat:
        raise SettingsError("--turn is a turn of a chat: add --chat, or leave it out.")
    if len(texts) % 2:
        raise SettingsError(f"--turn is given {len(texts)} times: give every turn of the user's its assistant's.")
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _head(text: str) -> Head:
    """Layer and query head, or None for all of them, from `L0.H3` or `L0`."""
    found = HEAD.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"--head {text[:40]!r} cannot be read: give a head such as L0.H3, or a layer such as L0.")
    return int(found[1]), None if found[2] is None else int(found[2])


def _report(
    view: View, asked: Example, mask: Mask | None, answer: str | None, heads: Sequence[Head], top: int, framing: Framing
) -> ActivationsReport:
    from explorer.masks.activations import contrast, written
    from explorer.masks.apply import empty_mask
    from explorer.measure.tokens import check_rows, encode, words_notice
    from explorer.spectra.cache import default_cache

    places = list(_places(view, heads))
    tokenizer, svds = view.model.tokenizer, default_cache(notice)
    first = [] if answer is None else [encode(tokenizer, asked.answered(answer), framing).answer[0]]
    check_rows(view.model, first, answer or "")
    if (sentence := words_notice(tokenizer, [asked.prompt], "the prompt")) is not None:
        notice(sentence)
    with working("Reading the prompt"):
        found = contrast(view, mask or empty_mask(view.model), svds, asked, framing)
        wrote = None if mask is None else written(view, mask, svds, asked, framing)
    before, after = found.before, found.after
    return {
        **identity(view),
        "prompt": asked.prompt,
        "bos": framing.bos,
        "chat": framing.chat,
        "system": framing.system,
        "turns": [text for turns in asked.shown for text in turns],
        "tokens": [{"id": token, "text": text} for token, text in zip(before.ids, before.tokens, strict=True)],
        "mode": None if mask is None else mask.mode,
        "gain": None if mask is None else mask.gain,
        "mask_digest": None if mask is None else mask.digest,
        "removed": 0 if mask is None else len(mask),
        "next": {"baseline": next_tokens(view, before, top), "masked": next_tokens(view, after, top)},
        "first_changed_layer": found.first_changed_layer(),
        "residual_change": found.residual_change().tolist(),
        "lens": lens(view, found, list(dict.fromkeys((*first, *found.next_tokens(top))))),
        "head_changes": found.head_changes().tolist(),
        "attention": [pattern(found, *place) for place in places],
        "written": [] if wrote is None else written_values(wrote),
    }


def _places(view: View, heads: Sequence[Head]) -> Iterable[tuple[int, int]]:
    """Every (layer, query head) asked for, each once; refuses what the model does not have."""
    n_layers, n_heads = int(view.config.n_layers), int(view.config.n_heads)
    for layer, head in heads:
        if layer >= n_layers or (head or 0) >= n_heads:
            raise SettingsError(
                f"--head L{layer}{'' if head is None else f'.H{head}'}: the model has layers 0 to {n_layers - 1} and "
                f"query heads 0 to {n_heads - 1}."
            )
    return dict.fromkeys((layer, one) for layer, head in heads for one in (range(n_heads) if head is None else (head,)))


# ---- for people


def _show(report: ActivationsReport, state: str | None, values: int) -> None:
    """Tables; `state` is what the mask's values are, None without a mask."""
    tokens = [repr(one["text"]) for one in report["tokens"]]
    say(f"{report['model']}, {len(tokens)} tokens: {' · '.join(tokens)}")
    if state is not None:
        say(f"Mask: {report['removed']:,} {state} ({report['mode']})")
    _show_next(report, masked=state is not None)
    _show_lens(report["lens"][0], masked=state is not None)
    for one in report["attention"]:
        _show_pattern(one, tokens, masked=state is not None)
    if state is None:
        return
    _show_residual(report, tokens)
    moved = [[percent(share) for share in layer] for layer in report["head_changes"]]
    _show_grid(
        "Attention moved to other tokens",
        "layer",
        [f"L{layer}" for layer in range(len(moved))],
        [f"head {head}" for head in range(len(moved[0]))],
        moved,
    )
    _show_written(report["written"][:values], tokens)
    if (more := len(report["written"]) - values) > 0:
        say(f"{more:,} more of the mask's values not shown; see --values.")


def _show_next(report: ActivationsReport, *, masked: bool) -> None:
    sides = [report["next"]["baseline"], *([report["next"]["masked"]] if masked else [])]
    cells = [[(repr(one["text"]), percent(one["probability"])) for one in side] for side in sides]
    columns = ("unpruned", "probability", *(("with the mask", "probability") if masked else ()))
    show_table("Most likely next tokens", columns, [sum(row, ()) for row in zip(*cells, strict=True)])


def _show_lens(one: LensToken, *, masked: bool) -> None:
    sides = [one["baseline"], *([one["masked"]] if masked else [])]
    rows = [
        (name, *(percent(math.exp(value)) for value in row))
        for name, row in zip(_entries(len(sides[0])), zip(*sides, strict=True), strict=True)
    ]
    columns = ("after", "unpruned", *(("with the mask",) if masked else ()))
    show_table(f"Logit lens: probability of {one['text']!r}", columns, rows)


def _entries(count: int) -> list[str]:
    """Names of the residual stream's entries."""
    return ["embedding", *(f"L{layer}" for layer in range(count - 1))]


def _show_residual(report: ActivationsReport, tokens: Sequence[str]) -> None:
    first = report["first_changed_layer"]
    if first is None:
        say("The residual stream is unchanged.")
        return
    changes = [[percent(share) for share in entry] for entry in report["residual_change"]]
    rows = _entries(len(changes))
    _show_grid("Change of the residual stream, of its norm before", "after", rows, tokens, changes)
    say(f"The first block whose output differs is layer {first}.")


def _show_pattern(one: Pattern, tokens: Sequence[str], *, masked: bool) -> None:
    """For every query the key that it attends to most."""
    sides = [one["baseline"], *([one["masked"]] if masked else [])]
    rows = []
    for query, token in enumerate(tokens):
        row = [token]
        for side in sides:
            share = max(side[query])
            row += [tokens[side[query].index(share)], percent(share)]
        rows.append(row)
    columns = ("query", "unpruned, most to", "share", *(("with the mask, most to", "share") if masked else ()))
    show_table(f"Attention of L{one['layer']} head {one['head']}", columns, rows)


def _show_written(values: Sequence[WrittenValue], tokens: Sequence[str]) -> None:
    for one in values:
        rows = list(zip(tokens, one["baseline"], one["masked"], strict=True))
        title = f"Written by {one['matrix']} value {one['index']}"
        show_table(title, ("token", "(x · u) s, unpruned", "with the mask"), rows)


def _show_grid(
    title: str, corner: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[str]]
) -> None:
    """A table of many columns, in as many pieces as a terminal needs."""
    for start in range(0, len(columns), ACROSS):
        piece = slice(start, start + ACROSS)
        body = [(name, *row[piece]) for name, row in zip(rows, cells, strict=True)]
        show_table(title if start == 0 else f"{title}, continued", (corner, *columns[piece]), body)
