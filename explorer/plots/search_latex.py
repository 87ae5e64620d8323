"""The report of a search as a table for a paper: LaTeX with booktabs, every setting in the caption."""

from __future__ import annotations

import math
from collections.abc import Iterator

from explorer.core.texts import percent
from explorer.measure.figures import Figures
from explorer.models import full_name
from explorer.plots.search_page import settings_of
from explorer.search.evidence.columns import draws_text, growth_text, points_text
from explorer.search.evidence.figures import EvidenceFigures
from explorer.search.report_file import SearchFile

_ESCAPED = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip
_HEAD = ("", "accuracy, test", "mask leads by (points)", "perplexity", "numbers")
_IN_TABLE = frozenset({"versions", "cost"})  # of settings: not needed to understand a row, and in report.json
Row = tuple[str, str, str, str, str]


def search_latex(report: SearchFile) -> str:
    """The table; needs the packages booktabs and textcomp, and is as wide as its text."""
    lines = [
        r"\begin{table}", r"  \centering", f"  \\caption{{{_caption(report)}}}", r"  \begin{tabular}{lllll}",
        r"    \toprule", _line(_HEAD), r"    \midrule",
    ]  # fmt: skip
    for number, group in enumerate((list(_masks(report)), list(_controls(report)), list(_rivals(report.evidence)))):
        if group and number:
            lines.append(r"    \midrule")
        lines += map(_line, group)
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX sets it; line breaks become spaces."""
    return "".join(_ESCAPED.get(letter, letter) for letter in " ".join(text.split()))


def _masks(report: SearchFile) -> Iterator[Row]:
    growth = None if report.damage is None or report.damage.text is None else report.damage.text.growth.value
    yield "unpruned", _accuracy(report.baseline), "", "", ""
    yield "mask", _accuracy(report.test), "", growth_text(growth), f"{report.removed:,}"
    for one in () if report.evidence is None else report.evidence.wordings:
        yield f"mask, asked {one.template}", _accuracy(one.masked), points_text(one.change), "", ""


def _controls(report: SearchFile) -> Iterator[Row]:
    for name, one in report.controls.items():
        low, high = min(one.accuracy), max(one.accuracy)
        spread = "" if one.draws == 1 else f" ({percent(low)} to {percent(high)}, {one.draws} draws)"
        yield name, f"{percent(one.median)}{spread}", "", "", f"{report.removed:,}"


def _rivals(evidence: EvidenceFigures | None) -> Iterator[Row]:
    for name, one in {} if evidence is None else evidence.rivals.items():
        numbers = "" if one.numbers is None else f"{one.numbers:,}"
        yield name, draws_text(one), points_text(one.lead), growth_text(one.growth), numbers


def _caption(report: SearchFile) -> str:
    evidence = report.evidence
    parts = [
        f"{report.strategy} on {report.task}, {full_name(report.model)}, {report.mode} removal, {report.basis} basis."
    ]
    if evidence is not None:
        parts.append(evidence.sentence)
        parts.append("Leads are of the mask over the row on new examples; 95 % bootstrap intervals over clusters.")
    parts += [f"{name}: {value}." for name, value in settings_of(report) if name not in _IN_TABLE]
    return escaped(" ".join(parts))


def _accuracy(figures: Figures) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in figures.accuracy_interval if math.isfinite(bound))
    return f"{percent(figures.accuracy)} [{low}, {high}] (n = {figures.n:,})"


def _line(row: tuple[str, ...]) -> str:
    return f"    {' & '.join(map(escaped, row))} \\\\"
