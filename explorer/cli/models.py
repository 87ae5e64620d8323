"""The `models` commands for people."""

from __future__ import annotations

from explorer.actions.models import (
    CheckModel,
    ConvertModel,
    ConvertResult,
    FetchModel,
    FidelityResult,
    ListModels,
    ModelEntry,
    ModelsResult,
)
from explorer.cli.console import say, show_table


def show_models(request: ListModels, result: ModelsResult) -> None:
    """Print a table of the models."""
    rows = [(one.name, one.summary, "yes" if one.available else "no", one.folder) for one in result.models]
    show_table("Models", ("name", "summary", "here", "folder"), rows)
    for one in result.models:
        if one.terms is not None and not one.available:
            say(f"{one.full_name} comes under terms to be accepted with --accept-terms: {one.terms}")
    say("Not here? eigenprune models fetch NAME. Hub ids, model folders and .gguf files work without fetching.")


def show_fetched(request: FetchModel, result: ModelEntry) -> None:
    """Print where it is."""
    say(f"{result.full_name} is in {result.folder}")


def show_checked(request: CheckModel, result: FidelityResult) -> None:
    """Print the differences."""
    rows = [(probe, "failed" if value is None else f"{value:.1e}") for probe, value in result.differences.items()]
    show_table(f"{request.model}: difference from plain transformers", ("probe", "nats"), rows)
    say(f"{result.words()} {result.architecture}, {result.dtype}; prompts of up to {result.longest} tokens.")


def show_converted(request: ConvertModel, result: ConvertResult) -> None:
    """Print where it is."""
    say(f"{result.tensors:,} tensors are in {result.folder}")
