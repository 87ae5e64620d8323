"""What the tables of the evidence show, in the terminal, on the page, in HTML and in LaTeX; and its sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import itemgetter

from explorer.core.columns import Column
from explorer.core.texts import accuracy_text, percent, range_text
from explorer.measure.figures import Figures
from explorer.search.evidence.figures import (
    ChosenValue,
    ClusteredFigures,
    EvidenceFigures,
    MemberFigures,
    RivalFigures,
    SubsetFigures,
    WordingFigures,
)

RivalRow = tuple[str, RivalFigures]
ClusteredRow = tuple[str, ClusteredFigures]
MOST_ROWS = 40  # of a list of values


def growth_text(growth: float | None) -> str:
    """A growth of the perplexity, in percent."""
    return "" if growth is None else f"{100 * growth:+.1f} %" if math.isfinite(growth) else "not finite"


def points_text(change: ClusteredFigures | None) -> str:
    """A difference of accuracies in points, with its interval."""
    if change is None:
        return ""
    low, high = (_point(bound) for bound in change.interval)
    return f"{_point(change.value)} [{low}, {high}]"


def share_text(found: ClusteredFigures) -> str:
    """An accuracy with its clustered standard error."""
    return f"{percent(found.value)} ± {_hundred(found.stderr)} (n = {found.n:,}, {found.clusters:,} clusters)"


def nats_text(change: ClusteredFigures) -> str:
    """A change of the loss with its interval."""
    low, high = (format(bound, "+.3f") if math.isfinite(bound) else "unknown" for bound in change.interval)
    return f"{change.value:+.3f} [{low}, {high}]" if math.isfinite(change.value) else "not finite"


def draws_text(figures: RivalFigures) -> str:
    """The accuracy of a rival, with its range where there are several draws; why there is none."""
    if figures.why:
        return "not measured"
    return percent(figures.accuracy[0]) if len(figures.accuracy) == 1 else range_text(figures.accuracy)


RIVAL_COLUMNS: tuple[Column[RivalRow], ...] = (
    Column("", itemgetter(0)),
    Column("kind", lambda row: row[1].role),
    Column("accuracy, test", itemgetter(1), draws_text),
    Column("the mask leads by, points, new examples", lambda row: row[1].lead, points_text),
    Column("perplexity", lambda row: row[1].growth, growth_text),
    Column("numbers", lambda row: "" if row[1].numbers is None else f"{row[1].numbers:,}"),
    Column("how", lambda row: row[1].why or " ".join(filter(None, (row[1].note, own_sentence(row[1]))))),
)
CLUSTERED_COLUMNS: tuple[Column[ClusteredRow], ...] = (
    Column("new examples, twins as one cluster", itemgetter(0)),
    Column("accuracy ± standard error", itemgetter(1), share_text),
)
WORDING_COLUMNS: tuple[Column[WordingFigures], ...] = (
    Column("wording that no search uses", lambda row: row.template.replace("\n", "\\n")),
    Column("unpruned", lambda row: row.baseline, lambda figures: _accuracy(figures)),
    Column("with the mask", lambda row: row.masked, lambda figures: _accuracy(figures)),
    Column("change, points", lambda row: row.change, points_text),
)
MEMBER_COLUMNS: tuple[Column[MemberFigures], ...] = (
    Column("restored alone", lambda row: f"{row.index} of {row.matrix}"),
    Column("loss rises by, nats", lambda row: row.loss, nats_text),
    Column("accuracy, points", lambda row: row.accuracy, lambda value: _point(value)),
    Column("necessary", lambda row: "yes" if row.necessary else ""),
)
SUBSET_COLUMNS: tuple[Column[SubsetFigures], ...] = (
    Column("removed, at random", lambda row: f"{row.kept:,}"),
    Column("draws", lambda row: len(row.accuracy)),
    Column("accuracy: median (range)", lambda row: row.accuracy, range_text),
)
CHOSEN_COLUMNS: tuple[Column[ChosenValue], ...] = (
    Column("value", lambda row: f"{row.index} of {row.matrix}"),
    Column("chosen by searches", lambda row: row.times),
)


def clustered_rows(evidence: EvidenceFigures) -> list[ClusteredRow]:
    """Accuracies on the new examples, with clustered standard errors."""
    return [("unpruned", evidence.baseline), ("with the mask", evidence.masked)]


def own_sentence(figures: RivalFigures) -> str:
    """What a search on permuted answers came to there."""
    if figures.own is None:
        return ""
    before, after = figures.own.baseline, figures.own.masked
    return f"On its own permuted answers (validation) loss {before.loss:.2f} to {after.loss:.2f} nats."


def evidence_sentences(evidence: EvidenceFigures) -> Iterator[str]:
    """What is to be known beside the tables; the sentence that all of it licenses is not among them."""
    yield (
        f"On {evidence.masked.n:,} examples in {evidence.masked.clusters:,} clusters"
        f"{'' if evidence.new else ' (all of the test split: none is new)'} the accuracy changes by "
        f"{points_text(evidence.change)} points, the loss by {nats_text(evidence.loss_change)} nats; intervals are of "
        "a bootstrap over clusters."
    )
    if evidence.draws:
        yield evidence.draws
    ability = evidence.ability
    if ability is not None and ability.recovered is not None and ability.interval is not None:
        low, high = (f"{100 * bound:.0f}" for bound in ability.interval)
        yield (
            f"Ability recovered: {100 * ability.recovered:.0f} % [{low}, {high}], from {percent(ability.zero)} to "
            f"{percent(ability.masked)} where shots give {percent(ability.shots)}."
        )
    elif ability is not None:
        yield f"Ability recovered is not shown: shots change the accuracy by {points_text(ability.gap)} points only."
    if evidence.code is not None:
        low, high = (f"{100 * bound:+.1f}" for bound in evidence.code.growth.interval)
        yield f"Perplexity of program text: {growth_text(evidence.code.growth.value)} [{low}, {high}]."
    if (members := evidence.members) is not None:
        sampled = "" if len(members.measured) == members.members else ", a random sample,"
        named = ", ".join(f"{one.index} of {one.matrix}" for one in members.necessary[:MOST_ROWS]) or "none"
        yield (
            f"Of {members.members:,} members {len(members.measured):,}{sampled} were restored alone, on {members.n:,} "
            f"examples; necessary: {named}."
        )
    if (stable := evidence.stability) is not None:
        yield (
            f"{stable.repeats} searches with other seeds and cuts removed {', '.join(map(str, stable.removed))} values "
            f"and gave {', '.join(map(percent, stable.accuracy))} on test; two of them share {percent(stable.overlap)} "
            f"of what either removes."
        )
        for what, count, figures in (
            ("All of them", stable.core, stable.core_test),
            ("At least half", stable.majority, stable.majority_test),
        ):
            alone = "" if figures is None else f", which alone give {_accuracy(figures)}"
            yield f"{what} removed {count:,} values{alone}."


def _accuracy(figures: Figures) -> str:
    return accuracy_text(figures.accuracy, figures.accuracy_interval, figures.n)


def _point(value: float) -> str:
    return f"{100 * value:+.1f}" if math.isfinite(value) else "unknown"


def _hundred(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "unknown"
