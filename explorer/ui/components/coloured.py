"""Tokens of a text, each with a background by its value: orange above zero, blue below, stronger for larger ones.

Text from elsewhere is escaped; the value of a token is in its tooltip, and the marked one has a frame, so that colour
alone says nothing. The backgrounds are half transparent: text stays readable on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from explorer.plots.style import ORANGE, SKY

STRONGEST = 0.5  # of the background's colour
_CELL = (
    "width:1%;padding:.15rem .75rem .15rem 0;vertical-align:top;white-space:nowrap;text-align:right;"
    "font-variant-numeric:tabular-nums"
)
_LINE = "padding:.15rem 0;font-family:var(--st-code-font,monospace);font-size:.85rem;overflow-wrap:anywhere"


def line(
    tokens: Sequence[str],
    values: Sequence[float],
    *,
    at: int,
    scale: float,
    cut: bool = False,
    titles: Sequence[str] | None = None,
    breaks: bool = False,
) -> str:
    """One text as HTML.

    Args:
        tokens: as the tokenizer cut them.
        values: of each.
        at: which one is marked.
        scale: the value of the strongest colour.
        cut: whether something stands before it.
        titles: what the tooltip of each says; its value if not given.
        breaks: whether lines break where the text has a line break.
    """
    told = [f"{value:+.4g}" for value in values] if titles is None else titles
    pieces = [
        _token(token, value, marked=place == at, scale=scale, title=title)
        + ("<br>" * token.count("\n") if breaks else "")
        for place, (token, value, title) in enumerate(zip(tokens, values, told, strict=True))
    ]
    return ("… " if cut else "") + "".join(pieces)


def table(heads: Sequence[str], rows: Iterable[tuple[Sequence[str], str]], name: str) -> str:
    """A table as HTML: cells of text, and last a cell of HTML from `line`."""
    top = "".join(f'<th scope="col" style="{_CELL};font-weight:600">{escape(one)}</th>' for one in heads[:-1])
    top += f'<th scope="col" style="text-align:left;font-weight:600">{escape(heads[-1])}</th>'
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in cells)
        + f'<td style="{_LINE}">{text}</td></tr>'
        for cells, text in rows
    )  # fmt: skip
    return (
        f'<table aria-label="{escape(name)}" style="width:100%;border:0;border-collapse:collapse;font-size:.9rem">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


def block(text: str, name: str) -> str:
    """One text from `line` for itself, as HTML."""
    return f'<div role="group" aria-label="{escape(name)}" style="{_LINE};line-height:1.6">{text}</div>'


def _token(text: str, value: float, *, marked: bool, scale: float, title: str) -> str:
    share = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    alpha = round(255 * STRONGEST * share)
    colour = f"{ORANGE if value >= 0 else SKY}{alpha:02x}"
    frame = "outline:2px solid currentColor;font-weight:700;" if marked else ""
    shown = escape(text.replace("\r", "").replace("\n", "⏎")).replace(" ", "&nbsp;") or "∅"
    style = f"background:{colour};{frame}border-radius:2px;padding:0 1px;margin-right:1px"
    return f'<span title="{escape(title)}" style="{style}">{shown}</span><wbr>'
