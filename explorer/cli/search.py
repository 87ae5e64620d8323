"""`search`: find a mask automatically, and report it beside its controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import kinds_or_all, layers_or_all, refuse_unwritable, removal_mode
from explorer.cli import options, strategies
from explorer.cli.console import notice, say, show_json
from explorer.cli.mask.damage import open_tasks, plain_text
from explorer.cli.released import AsReleased, check_alone
from explorer.cli.report import PAGE, write_page
from explorer.cli.search_bar import searching
from explorer.cli.search_report import show_report
from explorer.cli.setup import Asked, at_most, identity, open_for, open_task, seed_or_default, wording
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.search.journal import Journal
    from explorer.tasks import Task

RELEASED = (0.2, 8, 0)  # fraction, batch size and answer token, if they are not given
SHARE = 0.02  # of all values that may be removed, if --max-removed does not say otherwise


def search(
    model: options.ModelName,
    task: options.TaskName,
    out: options.MaskOut,
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            help="paper, adaptive, verified, learned, laser, ensemble, or a control: random-search, random-energy, "
            "smallest, largest.",
        ),
    ] = "verified",
    as_released: Annotated[
        bool, typer.Option("--as-released", help="paper as in its released code, in the folded basis (see below).")
    ] = False,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the values that --as-released takes.")
    ] = RELEASED[0],
    batch_size: options.BatchSize = RELEASED[1],
    answer_token: options.AnswerToken = RELEASED[2],
    per_kind: strategies.PerKind = False,
    base: strategies.Base = None,
    members: strategies.Members = None,
    over: strategies.Over = None,
    at_least: strategies.AtLeast = None,
    kinds: options.Kinds = "all",
    layers: Annotated[str | None, typer.Option("--layers", help="Layers such as 0-3,7; all if not given.")] = None,
    max_removed: Annotated[
        str, typer.Option("--max-removed", help="Most values to remove: a number, or a share of all such as 0.02.")
    ] = str(SHARE),
    time: Annotated[
        float | None, typer.Option("--time", min=0.0, help="Seconds after which the best mask so far is the result.")
    ] = None,
    max_growth: Annotated[
        float | None,
        typer.Option(
            "--max-growth", min=0.0, help="Largest growth of the perplexity on plain text, such as 0.1 for 10 %."
        ),
    ] = None,
    controls: Annotated[
        int, typer.Option("--controls", min=0, help="Draws of each random control of the mask; 0 for none.")
    ] = 20,
    test_limit: Annotated[
        int | None,
        typer.Option("--test-limit", min=1, help="Measure mask, baseline and controls on N test examples only."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Another task to measure the damage on; repeatable.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="Plain text for the damage: a UTF-8 file, or none; bundled if the model reads it."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder to write report.json and report.html into.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what an earlier run of the same search has measured.")
    ] = False,
    scorer: Annotated[
        str, typer.Option("--scorer", help="What scores the values: gradient, hybrid, or another of `score`.")
    ] = "gradient",
    mode: options.Mode = "freeze",
    stacked: options.Stacked = False,
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = None,
    seed: options.Seed = None,
    split_seed: Annotated[
        int | None, typer.Option("--split-seed", min=0, help="Seed of the splits alone; --seed if not given.")
    ] = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Search for a mask that lowers the loss of a task, and measure it once on the test split beside its controls.

    A search sees the train and the validation split only. The unpruned model counts as a result: if nothing helps, the
    mask is empty. Ctrl-C keeps the best mask so far. Asked for again, a search that was stopped or killed goes on where
    it was and ends with the same mask; --time, forwards and seconds are those of all its runs together.

    Keys of --json: model, model_digest, basis, task_digest, shots, template, bos, chat, system, strategy, task, seed,
    mode, removed, mask_digest, train, validation, test, test_limit, baseline, comparison, controls, curve, damage,
    stopped, settings, forwards, seconds, versions, out, report.

    With --strategy paper --as-released nothing is searched: --fraction decides, the budget does not. What replaces a
    value is its mean over the last mini-batch, summed over token positions. Values of O have one mean per position; the
    mask file holds their average, which is measured as well. Right is --answer-token at the prompt's last position.
    Further keys of --json: as_released, fraction, batch_size, answer_token, positions, padded, reads_bos,
    removed_by_kind, unpruned and averaged (by split; averaged is empty without O), exact (all answer tokens, test).

    Example: `eigenprune search --model bundled --task int-mult --kinds Q,K --max-removed 20 --out mask.json`
    """
    from explorer.attribution import SCORERS
    from explorer.search.options import StrategyOptions

    if scorer not in SCORERS:
        raise SettingsError(f"{scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
    seed = seed_or_default(seed)
    splits = seed if split_seed is None else split_seed

    asked = Asked(shots, template, data, bos, chat, system)

    def other(name: str) -> Task:
        return open_tasks([name], splits, "train", limit, replace(asked, template=None))[0]

    further = StrategyOptions(per_kind, base, members, over, at_least)
    chosen = further.choose(strategy, other)
    if as_released:
        if report is not None or also:
            raise SettingsError("--as-released has a report of its own: leave out --report and --also.")
        if splits != seed:
            raise SettingsError("--as-released has one seed for everything: leave out --split-seed.")
        if metric not in ("auto", "exact"):
            raise SettingsError("--as-released counts exact match, as the released code does: leave out --metric.")
        check_alone(strategy, layers, mode, stacked=stacked, per_kind=per_kind)
        return AsReleased(
            model, task, asked, kinds, fraction, batch_size, answer_token, limit, test_limit, seed,
            controls, dtype, device, out, json,
        ).run()  # fmt: skip
    if (fraction, batch_size, answer_token) != RELEASED:
        raise SettingsError("--fraction, --batch-size and --answer-token belong to --as-released: add it.")
    _check_places(out, report)
    some, wanted, removal = kinds_or_all(kinds), layers_or_all(layers), removal_mode(mode)
    opened = open_task(task, splits, "train", limit, replace(asked, metric=metric))
    opened.split("test", test_limit)
    others = open_tasks(also or [], splits, "test", test_limit, replace(asked, template=None))
    view = open_for([opened], "train", limit, model, dtype, device, basis)

    from explorer.models.matrices import matrices, shape
    from explorer.search.conductor import Watcher, conduct
    from explorer.search.journal import default_journals
    from explorer.search.report_file import as_file
    from explorer.search.request import SearchRequest
    from explorer.spectra.cache import default_cache

    plain = plain_text(view, text)
    keys = matrices(view, some, wanted, per_head=not stacked)
    request = SearchRequest(
        strategy, some, wanted, per_head=not stacked, mode=removal, scorer=scorer, limit=limit,
        max_removed=at_most(max_removed, sum(min(shape(view, key)) for key in keys)), seconds=time, seed=seed,
        controls=controls, test_limit=test_limit, options=further, growth=max_growth,
    )  # fmt: skip
    with searching(f"Searching ({strategy})", silent=json) as bar:
        found = conduct(
            request, view, opened, default_cache(notice), chosen=chosen, journals=default_journals(notice),
            fresh=fresh, others=others, text=plain,
            watcher=Watcher(bar.progress, lambda _, status: bar.watch(status), _say_resumed, after=bar.after),
        )  # fmt: skip
    found.mask.save(out)
    file = as_file(found.document())
    if report is not None:
        file.save(report)
        write_page(file, report / PAGE)
    if json:
        places = {"out": str(out), "report": None if report is None else str(report)}
        return show_json({**identity(view), **wording(opened), **found.as_dict(), **places})
    show_report(file)
    say(f"Mask: {out}")
    if report is not None:
        say(f"Report: {report / PAGE}")


def _check_places(out: Path, report: Path | None) -> None:
    refuse_unwritable(out)
    if report is not None:
        for name in ("report.json", PAGE):
            refuse_unwritable(report / name)


def _say_resumed(journal: Journal) -> None:
    notice(
        f"Resuming: {journal.recorded:,} scores and measurements of {journal.seconds:.0f} s are there already; "
        "--fresh starts anew."
    )
