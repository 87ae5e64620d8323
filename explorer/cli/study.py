"""`study`: how far numbers can be trusted, measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.actions.choices import kinds_or_all, refuse_unwritable, removal_mode
from explorer.cli import options
from explorer.cli.console import notice, say, show_json, show_table, working
from explorer.cli.reports import StudyReport, keys
from explorer.cli.setup import Asked, identity, open_for, open_task, seed_or_default, wording
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.study import Study

SPLIT = "train"
study_app = typer.Typer(help="How far scores can be trusted: predicted against exact.")


@study_app.command("scorers", epilog=keys(StudyReport))
def scorers(
    model: options.ModelName,
    task: options.TaskName,
    kinds: options.Kinds = "all",
    scorer: Annotated[
        list[str] | None,
        typer.Option("--scorer", help="A scorer to study; may be given several times. Default: gradient and hybrid."),
    ] = None,
    per_kind: Annotated[
        int, typer.Option("--per-kind", min=2, help="Values measured per kind, over all layers.")
    ] = 200,
    extremes: Annotated[
        int, typer.Option("--extremes", min=0, help="Besides, this many of the lowest and of the highest scores.")
    ] = 10,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Use the first N examples of the train split.")] = 64,
    mode: options.Mode = "freeze",
    stacked: options.Stacked = False,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write every measured value to this CSV file as well.")
    ] = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure the exact effect of a stratified sample of values, and compare what the scorers predict for them.

    Strata and extremes come from the first scorer. Measured effects are kept in the cache folder: a study that was
    stopped goes on.

    Example: `eigenprune study scorers --model bundled --task int-mult --per-kind 50`
    """
    from explorer.attribution import SCORERS
    from explorer.attribution.effect_store import default_effects
    from explorer.experiments.study import study_scorers
    from explorer.models.matrices import matrices
    from explorer.spectra.cache import default_cache

    names = tuple(dict.fromkeys(scorer or ("gradient", "hybrid")))
    for name in names:
        if name not in SCORERS:
            raise SettingsError(f"{name[:40]!r} is not a scorer: choose from {', '.join(SCORERS)}.")
    if out is not None:
        refuse_unwritable(out)
    chosen, removal, seed = kinds_or_all(kinds), removal_mode(mode), seed_or_default(seed)
    opened = open_task(task, seed, SPLIT, limit, Asked(shots, template, data, bos, chat, system, metric))
    view = open_for([opened], SPLIT, limit, model, dtype, device, basis)
    with working("Measuring exact effects") as progress:
        study = study_scorers(
            view, opened, default_cache(notice), matrices(view, chosen, per_head=not stacked),
            scorers=names, mode=removal, limit=limit, per_kind=per_kind, extremes=extremes, seed=seed,
            store=default_effects(notice), progress=progress,
        )  # fmt: skip
    if out is not None:
        _write_csv(study, out)
    report = {**identity(view), **wording(opened), **as_report(study)}
    return show_json(report) if json else _show(study)


def as_report(study: Study) -> dict[str, Any]:
    """The study as plain values, without the single measurements."""
    return {
        "task": study.task,
        "split": study.split,
        "n": study.n,
        "seed": study.seed,
        "mode": study.mode,
        "loss": study.loss,
        "scorers": list(study.scorers),
        "sampled": len(study.sample),
        "trust": [
            {"scorer": scorer, "kind": kind, "group": group, **asdict(one)}
            for (scorer, kind, group), one in study.trust.items()
        ],
        "joint": [{"scorer": scorer, "kind": kind, **asdict(one)} for (scorer, kind), one in study.joint.items()],
    }


def _write_csv(study: Study, path: Path) -> None:
    import pandas as pd

    rows = [
        {
            "matrix": str(one.matrix),
            "kind": str(one.matrix.kind),
            "layer": one.matrix.layer,
            "index": one.index,
            "group": one.group,
            "exact": one.exact,
            **one.predicted,
        }
        for one in study.sample
    ]
    pd.DataFrame(rows).to_csv(path, index=False)


def _show(study: Study) -> None:
    say(
        f"{study.model} on {study.task}: {len(study.sample):,} values measured exactly on {study.n:,} {study.split} "
        f"examples ({study.mode}), unpruned loss {study.loss:.3f} nats per example."
    )
    for scorer in study.scorers:
        show_table(
            f"{scorer}: single values",
            ("kind", "n", "Spearman", "Spearman, extremes", "Pearson", "sign right", "reliable up to (nats)"),
            _trust_rows(study, scorer),
        )
        show_table(
            f"{scorer}: the lowest k values together",
            ("kind", "right sign up to k", "half its size up to k", "k: predicted / exact (nats)"),
            _joint_rows(study, scorer),
        )


def _trust_rows(study: Study, scorer: str) -> Iterable[tuple[object, ...]]:
    for (name, kind, group), one in study.trust.items():
        if name == scorer and group == "all":
            extremes = study.trust[name, kind, "extremes"]
            yield (
                kind, one.n, f"{one.spearman:.3f}", f"{extremes.spearman:.3f}", f"{one.pearson:.3f}",
                f"{100 * one.sign_agreement:.1f} %", f"{one.reliable_range:.3g}",
            )  # fmt: skip


def _joint_rows(study: Study, scorer: str) -> Iterable[tuple[object, ...]]:
    for (name, kind), one in study.joint.items():
        if name == scorer:
            points = ", ".join(f"{p.count}: {p.predicted:.2f} / {p.exact:.2f}" for p in one.points)
            yield kind, one.sign_until, one.half_until, points
