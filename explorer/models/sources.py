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
from explorer.models import fetching, gguf, hub
from explorer.models.conversions import SOURCE_FILE
from explorer.models.fetching import FETCHED, FetchedModel

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

    @property
    def title(self) -> str:
        """Its name in full: `SmolLM2-135M-Instruct, Q4_1 GGUF`."""
        return FETCHED[self.name].full_name(self.revision) if self.name in FETCHED else self.name


@dataclass(frozen=True)
class NamedModel:
    """A model that has a short name: what it is, where its folder is, and how it is fetched if it is not there."""

    summary: str
    folder: Callable[[Settings], Path]
    fetched: FetchedModel | None = None


def _named_model(model: FetchedModel) -> NamedModel:
    return NamedModel(model.summary, lambda config: config.cache_dir / "models" / model.name, model)


NAMED: dict[str, NamedModel] = {
    "bundled": NamedModel(
        "GPT-2 architecture, 0.85 M parameters, with a hidden ability to multiply",
        lambda _: ASSETS / "bundled",
    ),
    **{name: _named_model(model) for name, model in FETCHED.items()},
}


def full_name(text: str) -> str:
    """A model's name in full, from its short name or from where its weights came from; other texts as they are."""
    if text in FETCHED:
        return _named(text).title if available(text) else FETCHED[text].title
    for model in FETCHED.values():
        if text == model.hub_id or text.startswith((f"{model.hub_id}@", f"{model.hub_id} (GGUF ")):
            return model.full_name(model.digest if "GGUF" in text else None)
    return text


def available(name: str) -> bool:
    """Whether the named model is on this machine."""
    return (NAMED[name].folder(settings()) / "config.json").is_file()


def fetch(name: str, progress: Progress | None = None, *, accept_terms: bool = False) -> Path:
    """Bring a named model onto this machine, once; returns its folder.

    `accept_terms` says that the user accepts the terms that it comes under, which is remembered.

    Raises:
        ModelError: unknown name, terms that were not accepted, or every way to get it failed.
    """
    if name not in NAMED:
        raise ModelError(f"{name[:80]!r} is not a model that can be fetched: choose one of {', '.join(NAMED)}.")
    entry = NAMED[name]
    folder = entry.folder(settings())
    if not available(name):
        if entry.fetched is None:
            raise ModelError(f"the {name} model is missing from {folder}: restore the folder from the repository.")
        if accept_terms:
            fetching.accept_terms(entry.fetched, folder.parent)
        fetching.fetch(entry.fetched, folder, progress)
    return folder


def locate(name: str, progress: Progress | None = None) -> Source:
    """Find the model that the user means; converts a .gguf file, downloads a hub id.

    Raises:
        ModelError: nothing by that name, an unusable file, or no network.
    """
    text, allowed = name.strip(), settings().models
    if allowed is not None and text not in allowed:
        raise ModelError(f"{text[:80]!r} is not offered here (EIGENPRUNE_MODELS): choose {', '.join(allowed)}.")
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
        return f"{start}, only an adapter: give its base model, and this folder as the adapter (--adapter {path})."
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
