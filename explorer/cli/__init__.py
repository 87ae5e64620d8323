"""The command line `eigenprune`: one subcommand per public function, reading the same tables as the pages.

Modules that need torch are imported inside the commands, so that help and `tasks list` appear at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from explorer.actions import (
    Curve,
    Evaluate,
    Finetune,
    ListMatrices,
    MeasureEffects,
    Prune,
    ReadActivations,
    ReadOut,
    Score,
    ShowCheckpoint,
    ShowSpectra,
    StudyScorers,
)
from explorer.cli import activations, evaluation, measuring, scoring, spectra
from explorer.cli.cache import cache_app
from explorer.cli.catalog import models_app
from explorer.cli.console import notice
from explorer.cli.finetune import show_finetuned
from explorer.cli.launch import open_app
from explorer.cli.mask import mask_app
from explorer.cli.parse import add
from explorer.cli.report import report
from explorer.cli.reproduce import reproduce
from explorer.cli.search import search
from explorer.cli.tasks import tasks_app
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
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
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


study_app = typer.Typer(help="How far scores can be trusted: predicted against exact.")


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


app.add_typer(models_app, name="models")
app.add_typer(tasks_app, name="tasks")
app.add_typer(mask_app, name="mask")
app.add_typer(study_app, name="study")
add(study_app, StudyScorers, measuring.show_study)
app.add_typer(cache_app, name="cache")
add(app, ListMatrices, spectra.show_matrices)
add(app, ShowSpectra, spectra.show_spectra)
add(app, ShowCheckpoint, spectra.show_checkpoint)
add(app, ReadOut, measuring.show_readout)
add(app, ReadActivations, activations.show)
add(app, Score, scoring.show_scores)
add(app, MeasureEffects, measuring.show_effects)
add(app, Finetune, show_finetuned)
add(app, Prune, scoring.show_pruned)
add(app, Curve, scoring.show_curve)
app.command("search")(search)
app.command("report")(report)
add(app, Evaluate, evaluation.show)
app.command("reproduce")(reproduce)
app.command("app")(open_app)


def main() -> None:
    """Entry point of the console command."""
    # The libraries' own switches, read when they are imported; what the user has set stays.
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    app(prog_name="eigenprune")
