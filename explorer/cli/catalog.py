"""`models list`, `fetch`, `check`, `convert`: the models that there are to work with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explorer.cli import options
from explorer.cli.console import say, show_json, show_table, working
from explorer.cli.reports import ConvertedReport, FidelityReport, ModelEntry, ModelsReport, keys
from explorer.cli.setup import open_view
from explorer.core.config import settings

models_app = typer.Typer(help="Models: list those with a short name, fetch or check one, convert .bin files.")


@models_app.command("list", epilog=keys(ModelsReport))
def models_list(json: options.Json = False) -> None:
    """List the models that have a short name, and whether they are on this machine.

    Example: `eigenprune models list`
    """
    from explorer.models import NAMED

    report: ModelsReport = {"models": [_model(name) for name in NAMED]}
    if json:
        return show_json(report)
    rows = [
        (entry["name"], entry["summary"], "yes" if entry["available"] else "no", entry["folder"])
        for entry in report["models"]
    ]
    show_table("Models", ("name", "summary", "here", "folder"), rows)
    say("Not here? eigenprune models fetch NAME. Hub ids, model folders and .gguf files work without fetching.")


def _model(name: str) -> ModelEntry:
    from explorer.models import NAMED, available

    entry = NAMED[name]
    folder = str(entry.folder(settings()))
    return {"name": name, "summary": entry.summary, "available": available(name), "folder": folder}


@models_app.command("fetch", epilog=keys(ModelEntry))
def models_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `models list`.")], json: options.Json = False
) -> None:
    """Bring a model onto this machine, once; interrupted downloads resume or start again cleanly.

    Example: `eigenprune models fetch smollm2-135m`
    """
    with working(f"Fetching {name}") as progress:
        from explorer.models import fetch

        fetch(name, progress)
    entry = _model(name)
    if json:
        return show_json(entry)
    say(f"{name} is in {entry['folder']}")


@models_app.command("check", epilog=keys(FidelityReport))
def models_check(
    name: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Compare a model's hooked copy with plain transformers: all blocks, on longer prompts than every load does.

    A model that differs is refused (exit code 2): its numbers would be wrong. It is read twice.

    Example: `eigenprune models check bundled`
    """
    model = open_view(name, dtype, device).model
    with working(f"Checking {name}"):
        from explorer.models import check_whole

        found = check_whole(model)
    report: FidelityReport = {
        "model": model.source.name,
        "model_digest": model.digest,
        "architecture": model.architecture,
        "dtype": found.dtype,
        "tolerance": found.tolerance,
        "differences": found.finite_differences,
        "prefixes": found.prefixes,
        "layers": found.layers,
        "n_layers": found.n_layers,
        "longest": found.longest,
    }
    if json:
        return show_json(report)
    rows = [(probe, "failed" if value is None else f"{value:.1e}") for probe, value in report["differences"].items()]
    show_table(f"{name}: difference from plain transformers", ("probe", "nats"), rows)
    say(f"{found.words()} {model.architecture}, {found.dtype}; prompts of up to {found.longest} tokens.")


@models_app.command("convert", epilog=keys(ConvertedReport))
def models_convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A Hugging Face folder with pytorch_model.bin.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; it must not be there yet.")],
    json: options.Json = False,
) -> None:
    """Turn pickled weights (pytorch_model.bin, in shards too) into a safetensors folder that every command loads.

    Only tensors are taken from the files; code in them is never run. Values stay as they are stored.

    Example: `eigenprune models convert ./old-model --out ./old-model-safetensors`
    """
    with working(f"Converting {folder}") as progress:
        from explorer.models import convert_bin

        tensors = convert_bin(folder, out, progress)
    report: ConvertedReport = {"folder": str(out), "tensors": tensors}
    if json:
        return show_json(report)
    say(f"{tensors:,} tensors are in {out}")
