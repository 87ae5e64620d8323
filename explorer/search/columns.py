"""What the tables of a search's report show, in the terminal, on the page and in the HTML file; and its sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import itemgetter

from explorer.core.columns import Column
from explorer.core.finite import perplexity_text
from explorer.core.texts import accuracy_text, loss_text, percent, range_text
from explorer.masks.damage import TaskDamageFigures, TextDamageFigures
from explorer.measure.figures import ComparisonFigures, Figures, SeenFigures
from explorer.search.control_runs import ControlFigures
from explorer.search.report_file import SearchFile
from explorer.tasks.metric import METRIC_NAMES, RULE_OF

MeasuredRow = tuple[str, Figures]
ControlRow = tuple[str, ControlFigures]


def measured_rows(report: SearchFile) -> list[MeasuredRow]:
    """The evaluations of a report by what was measured on what."""
    mask = f"{report.removed:,} removed ({report.mode})"
    return [
        ("unpruned, test", report.baseline),
        (f"{mask}, test", report.test),
        *_unseen_rows(report.seen, mask),
        (f"{mask}, validation", report.validation),
        (f"{mask}, train", report.train),
    ]


def _unseen_rows(seen: SeenFigures | None, mask: str) -> list[MeasuredRow]:
    """Figures of the test examples that the search has not seen, where it has seen some."""
    found: list[MeasuredRow] = []
    counted = [] if seen is None else [("test, not seen", seen.new_cases), ("test, answers not seen", seen.new_answers)]
    n = 0 if seen is None else seen.n
    for what, one in counted:
        if one is not None and one.masked.n < n:
            found += [(f"unpruned, {what}", one.baseline), (f"{mask}, {what}", one.masked)]
            n = one.masked.n
    return found


def seen_sentences(seen: SeenFigures) -> Iterator[str]:
    """How many test examples the search has seen, and how; what the mask does to the others, if these are fewer."""
    new = [0 if one is None else one.masked.n for one in (seen.new_cases, seen.new_answers)]
    yield (
        f"Of {seen.n:,} examples {seen.prompts:,} were read themselves to find the mask, a twin of {seen.twins:,}, and "
        f"the answer of {seen.answers:,} in other examples: {new[0]:,} are new, {new[1]:,} with a new answer, too."
    )
    for what, one in (("new examples", seen.new_cases), ("examples with new answers", seen.new_answers)):
        if one is not None and one.masked.n < seen.n:
            yield f"The {what}: {figures_text(one.baseline)} unpruned, {figures_text(one.masked)} with the mask."


def measured_columns(first: Figures) -> tuple[Column[MeasuredRow], ...]:
    """Columns of evaluations that are all like the first one: where there are choices, a second accuracy is among them.

    That is exact match, or the choice where exact match is the headline.
    """
    beside: tuple[Column[MeasuredRow], ...] = ()
    if first.choice:
        other = "choice" if first.metric == "exact" else "exact"
        beside = (Column(METRIC_NAMES[other], lambda row: _accuracy_by(row[1], other), _percent),)
    return (
        Column("", itemgetter(0)),
        Column(f"{first.accuracy_name} [95 % interval]", itemgetter(1), figures_text),
        *beside,
        Column("loss per example", lambda row: (row[1].loss, row[1].loss_stderr), lambda loss: loss_text(*loss)),
    )


def control_columns(accuracy: str = "accuracy") -> tuple[Column[ControlRow], ...]:
    """Columns of controls by name; `accuracy` is what the task calls it."""
    return (
        Column("control", itemgetter(0)),
        Column("draws", lambda row: row[1].draws),
        Column(f"{accuracy}: median (range)", lambda row: row[1].accuracy, range_text),
        Column("beaten in accuracy", lambda row: row[1].percentile.accuracy, _whole_percent),
        Column("beaten in loss", lambda row: row[1].percentile.loss, _whole_percent),
    )


def figures_text(figures: Figures) -> str:
    """An accuracy with its interval and n."""
    return accuracy_text(figures.accuracy, figures.accuracy_interval, figures.n)


def change_text(compared: ComparisonFigures) -> str:
    """What the mask changes on some examples, as one clause."""
    test, change = compared.accuracy_test, compared.loss_change
    low, high = change.interval
    return (
        f"wrong to right {test.repaired:,}, right to wrong {test.broken:,}, McNemar p = {test.p:.2g}; "
        f"loss {_known(change.value, '+.3f')} nats, 95 % bootstrap interval "
        f"[{_known(low, '+.3f')}, {_known(high, '+.3f')}]"
    )


def text_sentence(text: TextDamageFigures) -> str:
    """What the mask does to the perplexity."""
    before, after = (perplexity_text(one.perplexity, one.loss) for one in (text.baseline, text.masked))
    low, high = (_known(100 * bound, "+.1f") for bound in text.growth.interval)
    return (
        f"Perplexity of {text.baseline.tokens:,} tokens of text: {before} unpruned, {after} with the mask: "
        f"{_known(100 * text.growth.value, '+.1f')} % [{low}, {high}]"
    )


def beyond_sentence(report: SearchFile) -> str | None:
    """That the mask costs more than was allowed; None if it does not."""
    limit, growth = report.settings.max_growth, report.growth
    if not report.beyond or limit is None or growth is None:
        return None
    return (
        f"Nothing within the limit: no mask that was measured helps and lets the perplexity grow by at most "
        f"{100 * limit:g} %. This one comes nearest, with {100 * growth:+.1f} % on the search's own text: allow more "
        "growth or time, or take it for what it is."
    )


def figures_sentences(report: SearchFile) -> Iterator[str]:
    """What is to be known of the evaluations: on how many examples, and what comes of answering without reading."""
    first = report.baseline
    if (beyond := beyond_sentence(report)) is not None:
        yield beyond
    if report.test_limit is not None:
        yield f"Test figures are those of at most {report.test_limit:,} examples."
    if report.seen is not None:
        yield next(seen_sentences(report.seen))
    if first.guessing is not None and first.majority is not None:
        yield (
            f"Guessing among the choices gives {percent(first.guessing)}, always the most frequent answer "
            f"{percent(first.majority)}."
        )


DAMAGE_COLUMNS: tuple[Column[TaskDamageFigures], ...] = (
    Column("task", lambda row: f"{row.task}, {row.split}: {row.masked.accuracy_name}"),
    Column("unpruned", lambda row: row.baseline, figures_text),
    Column("with the mask", lambda row: row.masked, figures_text),
    Column("change", lambda row: row, change_text),
)


def _accuracy_by(figures: Figures, metric: str) -> float | None:
    """None where a file of an earlier version does not say it."""
    found = figures.exact if metric == "exact" else (figures.choice or {}).get(RULE_OF[metric])
    return None if found is None else found.accuracy


def _percent(share: float | None) -> str:
    return "unknown" if share is None else percent(share)


def _whole_percent(value: float) -> str:
    return f"{value:.0f} %"


def _known(value: float, style: str) -> str:
    return format(value, style) if math.isfinite(value) else "unknown"
