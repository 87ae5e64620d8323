"""`effects`, `readout` and `study` for people: what scores and searches say beside what was measured or is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from explorer.actions.effects import EffectsResult, MeasureEffects
from explorer.actions.organisms import OrganismsResult, StudyOrganisms
from explorer.actions.readout import ReadOut, ReadoutResult
from explorer.actions.study import StudyResult, StudyScorers
from explorer.cli.console import model_name, say, show_table
from explorer.core.columns import cells, names
from explorer.core.texts import loss_text

SHOWN = 40  # rows; --out and --json give all


def show_effects(request: MeasureEffects, result: EffectsResult) -> None:
    """Print exact effects; of many, those that help most and those that are needed most."""
    ranked = sorted(result.values, key=lambda one: one["exact"]) if len(result.values) > SHOWN else list(result.values)
    cut = [*ranked[: SHOWN // 2], *ranked[-(SHOWN // 2) :]] if len(ranked) > SHOWN else ranked
    rows = [(one["matrix"], one["index"], loss_text(one["exact"], one["stderr"], signed=True)) for one in cut]
    title = "Measured one by one, each alone"
    if len(cut) < len(ranked):
        title += f": the lowest and the highest {SHOWN // 2} of {len(ranked):,}"
    show_table(title, ("matrix", "index", "change of the loss"), rows)
    state = "unpruned" if request.mask is None else f"at {request.mask}:"
    say(f"{result.task}, {result.split} split, n = {result.n:,}, {state} loss {result.loss:.3f} nats per example.")
    if len(result.values) < result.asked:
        say(
            f"{len(result.values):,} of {result.asked:,} values were measured in the time given; the same command goes "
            "on with the others."
        )


def show_readout(request: ReadOut, result: ReadoutResult) -> None:
    """Print the tokens at either end of each vector."""
    for value in result.values:
        effect = value["exact"]
        told = (
            "a product cannot be removed"
            if effect is None
            else f"removed alone it changes the loss by {loss_text(effect['value'], effect['stderr'], signed=True)} "
            f"({result.mode}, {effect['n']:,} {result.split} examples of {result.task})"
        )
        say(f"{result.matrix} value {value['index']}, singular value {value['sigma']:.6g}: {told}")
        for end in value["ends"]:
            rows = [
                (repr(plus["text"]), plus["value"], repr(minus["text"]), minus["value"])
                for plus, minus in zip(end["plus"], end["minus"], strict=True)
            ]
            title = f"{end['vector']} {end['side']} ({end['kind']})"
            show_table(title, ("most positive", "value", "most negative", "value"), rows)


def show_study(request: StudyScorers, result: StudyResult) -> None:
    """Print how far each scorer can be trusted."""
    say(
        f"{model_name(result.model)} on {result.task}: {result.sampled:,} values measured exactly on "
        f"{result.n:,} {result.split} examples ({result.mode}), unpruned loss {result.loss:.3f} nats per example."
    )
    for scorer in result.scorers:
        show_table(
            f"{scorer}: the lowest k of the measured values, which a mask would take, each by itself",
            ("kind", "k", "of them among the k best", "regret (nats each)", "predicted / exact (nats each)"),
            _lowest_rows(result, scorer),
        )
        show_table(
            f"{scorer}: single values",
            ("kind", "n", "Spearman", "Spearman, extremes", "Pearson", "sign right", "reliable up to (nats)"),
            _trust_rows(result, scorer),
        )
        show_table(
            f"{scorer}: the lowest k values together",
            ("kind", "right sign up to k", "half its size up to k", "k: predicted / exact (nats)"),
            _joint_rows(result, scorer),
        )


def show_organisms(request: StudyOrganisms, result: OrganismsResult) -> None:
    """Print every search, and the means by habit and strategy."""
    from explorer.experiments.organisms import SEARCH_COLUMNS, SUMMARY_COLUMNS

    show_table("Searches on model organisms", names(SEARCH_COLUMNS), cells(SEARCH_COLUMNS, result.searches))
    show_table("By habit and strategy: means", names(SUMMARY_COLUMNS), cells(SUMMARY_COLUMNS, result.summary))
    say(
        f"Values of {result.kinds} matrices, at most {result.max_removed} removed, scored by {result.scorer}. "
        "Precision: removed values that were planted; recall: parts of the habit that were undone; an accuracy rose if "
        "it did so beyond chance (McNemar)."
    )


def _lowest_rows(result: StudyResult, scorer: str) -> Iterable[tuple[object, ...]]:
    for one in result.trust:
        if one["scorer"] == scorer and one["group"] == "all":
            for low in one["lowest"]:
                yield (
                    one["kind"], low["count"], f"{100 * low['precision']:.0f} %", f"{low['regret']:.3g}",
                    f"{low['predicted']:.3g} / {low['exact']:.3g}",
                )  # fmt: skip


def _trust_rows(result: StudyResult, scorer: str) -> Iterable[tuple[object, ...]]:
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for one in result.trust:
        if one["scorer"] == scorer:
            groups.setdefault(one["kind"], {})[one["group"]] = one
    for kind, by_group in groups.items():
        every, extremes = by_group["all"], by_group["extremes"]
        yield (
            kind, every["n"], f"{every['spearman']:.3f}", f"{extremes['spearman']:.3f}", f"{every['pearson']:.3f}",
            f"{100 * every['sign_agreement']:.1f} %", f"{every['reliable_range']:.3g}",
        )  # fmt: skip


def _joint_rows(result: StudyResult, scorer: str) -> Iterable[tuple[object, ...]]:
    for one in result.joint:
        if one["scorer"] == scorer:
            points = ", ".join(f"{p['count']}: {p['predicted']:.2f} / {p['exact']:.2f}" for p in one["points"])
            yield one["kind"], one["sign_until"], one["half_until"], points
