"""The report of a search as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

from explorer.core.columns import Column
from explorer.core.keys import MatrixKey
from explorer.masks.damage import DamageFigures
from explorer.masks.mask import Removed
from explorer.measure.figures import Figures
from explorer.models import full_name
from explorer.plots.html import figures_html, page_html, table_html
from explorer.plots.search import TriedMask, explain_curve, held_out, search_controls, search_curve
from explorer.search.columns import (
    DAMAGE_COLUMNS,
    change_text,
    control_columns,
    figures_sentences,
    measured_columns,
    measured_rows,
    text_sentence,
)
from explorer.search.evidence.columns import (
    CHOSEN_COLUMNS,
    CLUSTERED_COLUMNS,
    MEMBER_COLUMNS,
    MOST_ROWS,
    RIVAL_COLUMNS,
    SUBSET_COLUMNS,
    WORDING_COLUMNS,
    clustered_rows,
    evidence_sentences,
)
from explorer.search.evidence.figures import EvidenceFigures
from explorer.search.outcome import Budget
from explorer.search.report_file import SearchFile

_REMOVED: tuple[Column[tuple[MatrixKey, tuple[Removed, ...]]], ...] = (
    Column("matrix", lambda row: row[0]),
    Column("values", lambda row: len(row[1])),
    Column("indices", lambda row: ", ".join(str(one.index) for one in row[1])),
)
_FACTS: tuple[Column[tuple[str, object]], ...] = (
    Column("", lambda row: row[0]),
    Column("", lambda row: row[1]),
)
STOPPED = {"": "ran to its end", "time": "time was up", "stopped": "stopped by hand"}


def search_page(report: SearchFile, after: str = "") -> str:
    """The whole page; the same report gives the same page. `after` is HTML that follows it."""
    title = f"{report.strategy} on {report.task}: {report.removed:,} of {report.settings.max_removed:,} values removed"
    body = "\n".join([*_sections(report), after])
    about = (
        f"{full_name(report.model)}, {report.basis} basis, {report.mode} removal. Losses are in nats per example; "
        "accuracies come with 95 % Wilson intervals. The search saw the train and the validation split, never the test "
        "split."
    )
    return page_html(title, about, body)


def _sections(report: SearchFile) -> Iterator[str]:
    yield "<h2>Result</h2>"
    yield table_html(measured_columns(report.baseline), measured_rows(report))
    for sentence in figures_sentences(report):
        yield f"<p>{escape(sentence)}</p>"
    yield f"<p>{escape(change_text(report.comparison))}</p>"
    yield "<h2>On the way</h2>"
    explained = explain_curve(_curve(report, "loss")[0], held_out(report, "loss"))
    yield f"<p>{len(report.curve):,} masks were measured. {explained}</p>"
    yield figures_html(
        search_curve(*_curve(report, measure), measure, held_out(report, measure), accuracy=report.test.accuracy_name)
        for measure in ("loss", "accuracy")
    )
    yield from _controls(report)
    yield from _damage(report.damage)
    yield from _evidence(report.evidence)
    yield "<h2>What is removed</h2>"
    yield table_html(_REMOVED, report.mask.by_matrix.items())
    yield "<h2>How it was found</h2>"
    yield table_html(_FACTS, settings_of(report))


def _curve(report: SearchFile, measure: str) -> tuple[list[TriedMask], TriedMask]:
    budget = Budget(report.settings.max_removed, growth=report.settings.max_growth)

    def measured(removed: int, train: Figures | None, validation: Figures, growth: float | None = None) -> TriedMask:
        seen = None if train is None else getattr(train, measure)
        return TriedMask(removed, seen, getattr(validation, measure), within=budget.allows(removed, growth))

    chosen = measured(report.removed, report.train, report.validation)
    return [
        measured(point.removed, point.train, point.validation, growth=point.growth) for point in report.curve
    ], chosen


def _controls(report: SearchFile) -> Iterator[str]:
    yield "<h2>Controls: masks of the same size, chosen without the score</h2>"
    if not report.controls:
        yield "<p>None were drawn.</p>"
        return
    yield figures_html(
        search_controls(
            {name: getattr(one, measure) for name, one in report.controls.items()},
            getattr(report.test, measure), getattr(report.baseline, measure), measure=measure,
            accuracy=report.test.accuracy_name,
        )
        for measure in ("accuracy", "loss")
    )  # fmt: skip
    yield table_html(control_columns(report.test.accuracy_name), report.controls.items())


def _damage(damage: DamageFigures | None) -> Iterator[str]:
    yield "<h2>Damage elsewhere</h2>"
    if damage is None:
        yield "<p>It was not measured.</p>"
        return
    if damage.tasks:
        yield table_html(DAMAGE_COLUMNS, damage.tasks)
    if damage.text is not None:
        yield f"<p>{escape(text_sentence(damage.text))}.</p>"


def _evidence(evidence: EvidenceFigures | None) -> Iterator[str]:
    if evidence is None:
        return
    yield f"<h2>Evidence</h2><p><strong>{escape(evidence.sentence)}</strong></p>"
    yield table_html(CLUSTERED_COLUMNS, clustered_rows(evidence))
    for sentence in evidence_sentences(evidence):
        yield f"<p>{escape(sentence)}</p>"
    if evidence.rivals:
        yield "<h3>Nulls and baselines</h3>"
        yield table_html(RIVAL_COLUMNS, evidence.rivals.items())
    if evidence.wordings:
        yield "<h3>Other wordings</h3>"
        yield table_html(WORDING_COLUMNS, evidence.wordings)
    if evidence.members is not None:
        yield "<h3>Members, restored one by one</h3>"
        yield table_html(MEMBER_COLUMNS, evidence.members.measured[:MOST_ROWS])
    if evidence.subsets:
        yield "<h3>Random subsets of the mask</h3>"
        yield table_html(SUBSET_COLUMNS, evidence.subsets)
    if evidence.stability is not None:
        yield "<h3>Values that several searches chose</h3>"
        yield table_html(CHOSEN_COLUMNS, evidence.stability.chosen[:MOST_ROWS])


def settings_of(report: SearchFile) -> list[tuple[str, object]]:
    """Everything that decided the report, by name."""
    settings = report.settings
    limit = "all" if settings.limit is None else f"at most {settings.limit:,}"
    seconds = "" if settings.max_seconds is None else f", {settings.max_seconds:g} seconds"
    growth = "" if settings.max_growth is None else f", perplexity up by {100 * settings.max_growth:g} % at most"
    return [
        ("model", f"{full_name(report.model)}, {report.model}, {report.model_digest}"),
        ("task", f"{report.task}, {report.task_digest}"),
        ("shots", report.shots),
        ("template", "the task's own" if report.template is None else report.template),
        *([("BOS token", report.bos)] if report.bos != "auto" else []),
        ("splits", _cases(report)),
        *([("asked as", "a chat")] if report.chat else []),
        *([("system message", report.system)] if report.system is not None else []),
        ("seed", report.seed),
        *([("strategy's options", json.dumps(settings.options))] if settings.options else []),
        ("scorer", settings.scorer),
        ("train examples", limit),
        ("matrices", f"{len(settings.matrices):,}: {_few(settings.matrices)}"),
        ("budget", f"{settings.max_removed:,} values{seconds}{growth}"),
        ("end", STOPPED[report.stopped]),
        ("cost", f"{report.forwards:,} forward passes of one example, {report.seconds:.1f} s"),
        ("run on", f"{settings.device}, {settings.dtype}"),
        ("mask", report.mask_digest),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]


def _cases(report: SearchFile) -> str:
    """Which cases were for searching."""
    how = {"twins": "twins in one split", "published": "as published: every ordered pair for itself"}
    held_out = "" if report.hold_out is None else f"; {report.hold_out} held out for test"
    wordings = "" if report.wordings == 1 else f"; {report.wordings} wordings in turn"
    only = "" if report.only is None else f"; only {report.only}"
    return f"{how.get(report.splits, report.splits)}{held_out}{wordings}{only}"


def _few(names: Sequence[str], most: int = 40) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
