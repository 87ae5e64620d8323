"""Self-contained HTML pages: nothing is loaded from elsewhere, light and dark follow the reader's system.

What came from a file is data: all of it is escaped. A page forbids itself every connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, TypeVar

from explorer.core.columns import Column, cells, names
from explorer.plots.search import plotly_script
from explorer.plots.style import CONFIG

RowT = TypeVar("RowT")

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5a5a5a; --line: #d8d8d8; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #a8a8a8; --line: #444444; --paper: #16181c; } }
body { margin: 0 auto; max-width: 1080px; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } h3 { font-size: 1rem; }
p { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 1rem; }
.figures > * { min-width: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; }
td:first-child { overflow-wrap: normal; }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); border-radius: 4px; }
a { color: inherit; }
"""
THEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
function paint() {
  const ink = dark.matches ? "#e8e8e8" : "#1a1a1a", line = dark.matches ? "#444444" : "#d8d8d8";
  const colours = { "font.color": ink };
  for (const axis of ["xaxis", "yaxis"]) {
    colours[axis + ".gridcolor"] = line; colours[axis + ".zerolinecolor"] = line; colours[axis + ".color"] = ink;
  }
  document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
    Plotly.relayout(plot, colours); Plotly.Plots.resize(plot);
  });
}
dark.addEventListener("change", paint); addEventListener("load", paint);
"""


def page_html(title: str, about: str, body: str) -> str:
    """A whole page.

    Args:
        title: its heading.
        about: the sentences below it.
        body: HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<script>{plotly_script()}</script>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>{escape(about)}</p>
{body}
</main>
<script>{THEME}</script>
</body>
</html>
"""


def figures_html(figures: Iterable[Any]) -> str:
    """Plotly figures beside each other; each says its title to who cannot see it."""
    drawn = [
        f'<div role="group" aria-label="{escape(figure.layout.title.text)}">'
        + figure.to_html(
            full_html=False, include_plotlyjs=False, config={**CONFIG, "responsive": True}, div_id=_name(figure)
        )
        + "</div>"
        for figure in figures
    ]
    return f'<div class="figures">{"".join(drawn)}</div>'


def table_html(columns: Sequence[Column[RowT]], rows: Iterable[RowT]) -> str:
    """A table."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names(columns))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in cells(columns, rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def code_html(lines: Iterable[str]) -> str:
    """Lines of code; a box that a keyboard can scroll."""
    return "".join(f'<pre tabindex="0"><code>{escape(line)}</code></pre>' for line in lines)


def links_html(files: Iterable[str]) -> str:
    """Files beside the page."""
    items = (f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in files)
    return f"<ul>{''.join(items)}</ul>"


def _name(figure: Any) -> str:
    """A name that is the same for the same figure; plotly would draw lots."""
    return "".join(character for character in figure.layout.title.text.lower() if character.isalnum())
