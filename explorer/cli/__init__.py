"""The command line `eigenprune`: one subcommand per public function, reading the same tables as the pages.

Modules that need torch are imported inside the commands, so that help and `tasks list` appear at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

import explorer.actions as ask
from explorer.cli import (
    activations,
    attention,
    cache,
    direction,
    evaluation,
    export,
    finetune,
    generate,
    harness,
    interactions,
    labels,
    masks,
    measuring,
    models,
    push,
    report,
    reproduce,
    scoring,
    search,
    slices,
    spectra,
    tasks,
)
from explorer.cli.console import notice
from explorer.cli.launch import open_app
from explorer.cli.parse import add
from explorer.core.errors import ExplorerError

FIXABLE, STOPPED = 2, 130
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class Commands(TyperGroup):
    """Says in one sentence on stderr what the user can fix, instead of a traceback or a usage text."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and leave with its exit code; see the help text for the codes."""
        try:
            code = super().main(
                args, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra
            )
        except ExplorerError as error:
            notice(f"Error: {error}")
            code = FIXABLE
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            where = "" if context is None else f"; see `{context.command_path} --help`"
            notice(f"Error: {error.format_message().rstrip('.')}{where}.")
            code = FIXABLE
        except typer.Abort:
            code = STOPPED
        if code == STOPPED:
            notice("Stopped.")
        if standalone_mode:
            sys.exit(code)
        return code


app = typer.Typer(
    cls=Commands,
    name="eigenprune",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Score, remove and inspect the singular values of a language model's weight matrices.

    Results go to stdout, progress and notices to stderr. Commands that report take `--json`; each one's help names its
    keys. Exit codes: 0 done; 2 something that you can fix, said in one sentence on stderr; 3 some cells of `reproduce`
    could not be had; 130 stopped by Ctrl-C; 1 anything else.

    Example: `eigenprune eval --model bundled --task int-mult`
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


GROUPS = {
    "models": "Models: list those with a short name, fetch or check one, convert .bin files.",
    "tasks": "Tasks: list the built-in ones, fetch the data of others, show examples and their tokens, check a file.",
    "mask": "Masks: look into files, combine them, measure them elsewhere.",
    "study": "How far scores can be trusted, and what searches find where the truth is known.",
    "cache": "Decompositions, measured effects and searches kept on disk: how much there is, check, remove.",
}
SHOWN: tuple[tuple[type[ask.Request], Callable[[Any, Any], None]], ...] = (
    (ask.ListModels, models.show_models),
    (ask.FetchModel, models.show_fetched),
    (ask.CheckModel, models.show_checked),
    (ask.ConvertModel, models.show_converted),
    (ask.ListTasks, tasks.show_tasks),
    (ask.FetchTasks, tasks.show_fetched),
    (ask.ShowTask, tasks.show_task),
    (ask.ValidateTask, tasks.show_validated),
    (ask.ShowMask, masks.show_mask),
    (ask.DiffMasks, masks.show_diff),
    (ask.CompareMasks, masks.show_compared),
    (ask.UniteMasks, masks.show_combined),
    (ask.IntersectMasks, masks.show_combined),
    (ask.VoteMasks, masks.show_combined),
    (ask.SubtractMasks, masks.show_combined),
    (ask.ScaleMask, masks.show_scaled),
    (ask.RenewMask, masks.show_renewed),
    (ask.MeasureDamage, masks.show_damage),
    (ask.MeasureEvidence, search.show_evidence),
    (ask.TransferMask, masks.show_transfer),
    (ask.StudyScorers, measuring.show_study),
    (ask.StudyOrganisms, measuring.show_organisms),
    (ask.CacheInfo, cache.show),
    (ask.ClearCache, cache.show),
    (ask.VerifyCache, cache.show),
    (ask.ListMatrices, spectra.show_matrices),
    (ask.ShowSpectra, spectra.show_spectra),
    (ask.ShowCheckpoint, spectra.show_checkpoint),
    (ask.ReadOut, measuring.show_readout),
    (ask.ShowDirection, direction.show),
    (ask.LabelDirection, labels.show),
    (ask.ListLabels, labels.show),
    (ask.ReadActivations, activations.show),
    (ask.SplitAttention, attention.show),
    (ask.Generate, generate.show),
    (ask.Score, scoring.show_scores),
    (ask.MeasureEffects, measuring.show_effects),
    (ask.MeasureInteractions, interactions.show),
    (ask.Finetune, finetune.show),
    (ask.Prune, scoring.show_pruned),
    (ask.Curve, scoring.show_curve),
    (ask.Search, search.show),
    (ask.Evaluate, evaluation.show),
    (ask.SliceExamples, slices.show),
    (ask.ExportMask, export.show),
    (ask.PushExport, push.show),
    (ask.RunHarness, harness.show),
    (ask.Reproduce, reproduce.show),
    (ask.ShowReport, report.show),
)
groups = {name: typer.Typer(help=text) for name, text in GROUPS.items()}
for name, group in groups.items():
    app.add_typer(group, name=name)
for request, show in SHOWN:
    first, *rest = request.command.split()
    add(groups[first] if rest else app, request, show)
app.command("app")(open_app)


def main() -> None:
    """Entry point of the console command."""
    # The libraries' own switches, read when they are imported; what the user has set stays.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    app(prog_name="eigenprune")
