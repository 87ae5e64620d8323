"""Where a model comes from: a name of ours, a local folder, a .gguf file, or a Hugging Face hub id.

`locate` turns what the user typed into a local folder with config, tokenizer and safetensors; loading starts there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from explorer.core.config import ASSETS, Settings, settings
from explorer.core.errors import ModelError, Stopped
from explorer.core.files import typed_path
from explorer.core.progress import Progress
from explorer.models import gguf, hub, smollm2

SOURCE_FILE = "source.json"
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Source:
    """A model on this machine.

    Attributes:
        name: what the user typed.
        folder: local Hugging Face folder.
        origin: where the weights came from (hub id, file, package), for the mask's model identity.
        revision: commit or file digest, None where there is none.
    """

    name: str
    folder: Path
    origin: str
    revision: str | None = None


@dataclass(frozen=True)
class NamedModel:
    """A model that has a short name: what it is, where its folder is, and how to get it if it is not there."""

    summary: str
    folder: Callable[[Settings], Path]
    fetch: Callable[[Path, Progress | None], None] | None = None


NAMED: dict[str, NamedModel] = {
    "bundled": NamedModel(
        "GPT-2 architecture, 0.85 M parameters, with a hidden ability to multiply",
        lambda _: ASSETS / "bundled",
    ),
    smollm2.NAME: NamedModel(
        "SmolLM2-135M-Instruct, a real language model (Llama architecture)",
        lambda config: config.cache_dir / "models" / smollm2.NAME,
        smollm2.fetch,
    ),
}


def available(name: str) -> bool:
    """Whether the named model is on this machine."""
    return (NAMED[name].folder(settings()) / "config.json").is_file()


def fetch(name: str, progress: Progress | None = None) -> Path:
    """Bring a named model onto this machine, once; returns its folder.

    Raises:
        ModelError: unknown name, or every way to get it failed.
    """
    if name not in NAMED:
        raise ModelError(f"{name[:80]!r} is not a model that can be fetched: choose one of {', '.join(NAMED)}.")
    entry = NAMED[name]
    folder = entry.folder(settings())
    if not available(name):
        if entry.fetch is None:
            raise ModelError(f"the {name} model is missing from {folder}: restore the folder from the repository.")
        entry.fetch(folder, progress)
    return folder


def locate(name: str, progress: Progress | None = None) -> Source:
    """Find the model that the user means; converts a .gguf file, downloads a hub id.

    Raises:
        ModelError: nothing by that name, an unusable file, or no network.
    """
    text = name.strip()
    if text in NAMED:
        return _named(text)
    path = typed_path(text)
    if path is None:
        raise ModelError(_not_there(text))
    if path.is_dir() and (path.suffix != ".gguf" or (path / "config.json").exists()):
        if not (path / "config.json").exists():
            raise ModelError(_no_config(path))
        return Source(text, path.resolve(), str(path.resolve()))
    if gguf.is_gguf(path):
        return Source(text, gguf.converted(path, settings().cache_dir / "models", progress), str(path), revision=None)
    if path.exists():
        raise ModelError(f"{path} is neither a model folder nor a .gguf file: give one of these, or a hub id.")
    if text.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(text):
        raise ModelError(_not_there(text))
    return _hub(text, progress)


def _not_there(text: str) -> str:
    return f"{text[:80]!r} is not there: give {', '.join(NAMED)}, a model folder, a .gguf file or a hub id."


def _no_config(path: Path) -> str:
    start = f"the folder {path} holds no config.json"
    if (path / "adapter_config.json").exists():
        return (
            f"{start}, only an adapter: load its base model with peft, merge the two with `merge_and_unload`, save the "
            "result with `save_pretrained` and give that folder."
        )
    if files := sorted(file.name for file in path.iterdir() if file.suffix.lower() == ".gguf"):
        return f"{start}, but {files[0]}: give the .gguf file itself."
    return f"{start}: give a Hugging Face model folder."


def _named(name: str) -> Source:
    folder = NAMED[name].folder(settings())
    if not available(name):
        raise ModelError(f"{name} is not on this machine yet: run `eigenprune models fetch {name}`.")
    record = folder / SOURCE_FILE
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return Source(name, folder, known.get("origin", name), revision=known.get("revision"))


def _hub(text: str, progress: Progress | None) -> Source:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, _, revision = text.partition("@")
    try:
        folder = hub.snapshot(repo, revision or None, progress)
    except Stopped:
        raise
    except GatedRepoError:
        raise ModelError(f"{repo} is gated: accept its licence on the hub and log in with `hf auth login`.") from None
    except RevisionNotFoundError:
        raise ModelError(f"{repo} has no revision {revision!r}: give a branch, tag or commit of that model.") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(f"{repo!r} is neither on the hub nor a local folder or file: check the name.") from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{repo!r} is not on this machine and the Hugging Face hub cannot be reached: "
            "check the network, or give a local folder or .gguf file."
        ) from None
    except Exception as error:  # the hub's client fails with its own types, those of its HTTP library among them
        raise ModelError(f"{repo!r} could not be downloaded ({hub.reason(error)}): try again, it resumes.") from None
    return Source(text, folder, repo, revision=folder.name)
