"""What commands do before their work: check options that need no model, then load the model."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, get_args

from explorer.cli.console import working
from explorer.config import DTYPES, settings
from explorer.errors import MaskError, SettingsError
from explorer.keys import Kind, parse_kinds
from explorer.tasks import Task, load_task

if TYPE_CHECKING:
    from explorer.masks import Mode
    from explorer.models import View


class Identity(TypedDict):
    """The part of a report that says which weights it is about."""

    model: str
    model_digest: str
    basis: str


def open_view(model: str, dtype: str | None, device: str | None) -> View:
    """Load a model and take a view of it."""
    if dtype is not None and dtype not in DTYPES:
        raise SettingsError(f"--dtype {dtype[:40]!r} is not known: choose one of {', '.join(DTYPES)}.")
    with working(f"Loading {model}") as progress:
        from explorer.models import load

        return load(model, dtype=dtype, device=device, progress=progress).view()


def identity(view: View) -> Identity:
    """Which weights a report is about."""
    return {"model": view.model.source.name, "model_digest": view.model.digest, "basis": view.model.basis}


def seed_or_default(seed: int | None) -> int:
    """The seed that was given, else the settings'."""
    return settings().seed if seed is None else seed


def open_task(name: str, seed: int, split: str, limit: int | None) -> Task:
    """Load a task and make sure that the split can be used, before anything slow begins."""
    task = load_task(name, seed)
    task.split(split, limit)
    return task


def kinds_or_all(text: str) -> tuple[Kind, ...] | None:
    """Kinds from `Q,K`; None, every kind that the model has, from `all`."""
    return None if text.strip().lower() == "all" else parse_kinds(text)


def removal_mode(text: str) -> Mode:
    """Check a removal mode."""
    from explorer.masks import Mode

    modes: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
    if text not in modes:
        raise SettingsError(f"{text[:40]!r} is not a removal mode: choose one of {', '.join(modes)}.")
    return modes[text]


def refuse_unwritable(path: Path) -> None:
    """Raise MaskError unless a file can be put at `path`; an ordinary file that is there already may be replaced."""
    if path.exists() and not path.is_file():
        raise MaskError(f"{path} is there and is not a file: give --out the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise MaskError(f"{path} cannot be written ({error.strerror}): choose another place.") from None


def command(*words: str) -> str:
    """A command line that can be copied into a shell."""
    return shlex.join(("eigenprune", *words))
