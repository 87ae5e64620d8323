"""Which files a model is: the one place that says so, for loading and for reading spectra without loading.

The rules are those of transformers' `from_pretrained` on a folder, so that both read the same tensors:

1. The weights are the file or index that config.json names as `transformers_weights`, else `model.safetensors`, else
   the shards that `model.safetensors.index.json` lists. Other safetensors files are not the model's.
2. Of an index every shard is read whole. It must lie inside the folder, hold the tensors that the index says, and no
   tensor may stand in two shards.
3. Only ordinary files are opened: a named pipe would wait for ever, a device has no end. Links are followed, because
   the hub's own cache consists of them.

Nothing but JSON and the headers of safetensors files is read here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors import SafetensorError, safe_open

from explorer.core.errors import ModelError
from explorer.models.sources import Source

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
BIN, BIN_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_PICKLED = (".bin", ".pt", ".pth")
_MAX_JSON = 100_000_000  # bytes; the largest index on the hub has some ten megabytes


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as its safetensors header describes it.

    Attributes:
        path: its file.
        dtype: its type in safetensors' words, such as `BF16`.
        shape: its shape as stored.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        folder: where they are.
        fields: what config.json says, as it stands there.
        weights: the safetensors files, in the order in which they are read.
        tensors: every stored tensor by its name.
    """

    folder: Path
    fields: dict[str, Any] = field(repr=False)
    weights: tuple[Path, ...]
    tensors: dict[str, StoredTensor] = field(repr=False)

    def read(self, name: str) -> Any:
        """One tensor, as stored."""
        with safe_open(self.tensors[name].path, framework="pt") as opened:
            return opened.get_tensor(name)


class NoWeightsError(ModelError):
    """A folder with a config.json, whose `fields` it has, and without weights that can be read."""

    def __init__(self, message: str, fields: dict[str, Any]) -> None:
        super().__init__(message)
        self.fields = fields


def model_files(source: Source) -> ModelFiles:
    """The files of a model, with all headers read and nothing else.

    Raises:
        NoWeightsError: no safetensors weights.
        ModelError: no config.json, an adapter, a broken index or header, a file that is no ordinary file.
    """
    folder = source.folder
    fields = read_object(source.name, folder / CONFIG)
    weights, listed = _weights(source, fields)
    if (folder / ADAPTER).exists():
        raise ModelError(
            f"{source.name} has an adapter ({ADAPTER}) beside its weights, so that it is two models: merge them with "
            f"peft's `merge_and_unload` and save the result, or move {ADAPTER} away to use the weights alone."
        )
    tensors: dict[str, StoredTensor] = {}
    for path in weights:
        for name, stored in _header(source, path).items():
            if name in tensors:
                raise ModelError(
                    f"{source.name} holds {name[:120]} in both {tensors[name].path.name} and {path.name}: "
                    "get its files again."
                )
            tensors[name] = stored
    for name, path in listed.items():
        if name not in tensors or tensors[name].path != path:
            raise ModelError(
                f"{source.name} lacks the weight {name[:120]}, which its index says is in {path.name}: "
                "check that it is complete."
            )
    return ModelFiles(folder, fields, weights, tensors=tensors)


def read_object(name: str, path: Path) -> dict[str, Any]:
    """The JSON object in a file of the model called `name`.

    Raises:
        ModelError: it is not there, no ordinary file, too large, no JSON, or no object.
    """
    require_ordinary(name, path)
    try:
        size = path.stat().st_size
        value: Any = json.loads(path.read_text(encoding="utf-8")) if size <= _MAX_JSON else None
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ModelError(f"{name} has a {path.name} that transformers cannot use (no JSON object): get it again.")
    return value


def require_ordinary(name: str, path: Path) -> None:
    """Refuse a file that is not there, or that is a folder, pipe, socket or device; it is not opened."""
    if path.is_file():
        return
    if path.exists() or path.is_symlink():
        raise ModelError(f"{name} has a {path.name} that is no ordinary file: put the file itself there.")
    raise ModelError(f"{name} has no {path.name} in {path.parent}: check that it is complete.")


def tensor_names(opened: Any) -> list[str]:
    """Names of the tensors in an opened safetensors file."""
    return list(opened.keys())


def bin_files(folder: Path) -> list[str]:
    """Names of the pickled weights in a folder, if there are any."""
    return sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLED and path.is_file())


def inside(name: str, index: Path, files: Iterable[Any]) -> dict[str, Path]:
    """Paths of the files that an index names, by that name.

    Raises:
        ModelError: one is no text, or leads out of the index' folder.
    """
    paths = {}
    for file in files:
        parts = PurePosixPath(file).parts if isinstance(file, str) and file else ("..",)
        if ".." in parts or "\0" in str(file) or PurePosixPath(file).is_absolute() or PureWindowsPath(file).anchor:
            raise ModelError(f"{name} has an {index.name} that names files outside its folder: get it again.")
        paths[file] = index.parent / file
    return paths


def weight_map(name: str, index: Path) -> dict[str, str]:
    """File name by tensor, from an index; raises ModelError where it has no usable `weight_map`."""
    listed = read_object(name, index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(file, str) for file in listed.values()):
        raise ModelError(f"{name} has an {index.name} without a usable weight_map: get it again.")
    return listed


def _weights(source: Source, fields: dict[str, Any]) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """The safetensors files, and the file of every tensor that an index lists."""
    entry = _entry(source, fields)
    if not entry.name.endswith(".index.json"):
        require_ordinary(source.name, entry)
        return (entry,), {}
    listed = weight_map(source.name, entry)
    paths = inside(source.name, entry, dict.fromkeys(listed.values()))
    for path in sorted(paths.values()):
        if path.suffix != ".safetensors":
            raise ModelError(f"{source.name} has an {entry.name} that names {path.name[:80]}: expected safetensors.")
        require_ordinary(source.name, path)
    return tuple(sorted(paths.values())), {tensor: paths[file] for tensor, file in listed.items()}


def _entry(source: Source, fields: dict[str, Any]) -> Path:
    """The safetensors file or index that transformers starts from."""
    named = fields.get("transformers_weights")
    if named is not None:
        path = inside(source.name, source.folder / CONFIG, [named])[named]
        if not path.name.endswith((".safetensors", ".safetensors.index.json")):
            raise ModelError(
                f"{source.name} names {path.name[:80]!r} as transformers_weights in config.json: expected safetensors."
            )
        return path
    for path in (source.folder / WEIGHTS, source.folder / INDEX):
        if path.exists() or path.is_symlink():
            return path
    raise NoWeightsError(_no_weights(source), fields)


def _no_weights(source: Source) -> str:
    start = f"{source.name} has no safetensors weights in {source.folder}"
    if pickled := bin_files(source.folder):
        if not any((source.folder / name).exists() for name in (BIN, BIN_INDEX)):
            return (
                f"{start}, only {pickled[0]}, whose format can hold code: save the model with `save_pretrained`, or "
                f"give its weights the name {BIN} and convert them with `eigenprune models convert`."
            )
        command = shlex.join(("eigenprune", "models", "convert", str(source.folder)))
        first = next((name for name in pickled if name.startswith("pytorch_model")), pickled[0])
        return f"{start}, only {first}, whose format can hold code: run `{command} --out FOLDER`, then load FOLDER."
    if others := sorted(path.name for path in source.folder.glob("*.safetensors")):
        return f"{start} called {WEIGHTS} or listed in {INDEX}, but {others[0]}: give it that name if it is the model."
    return f"{start}: save it with `save_pretrained` first, or convert its .bin files with `eigenprune models convert`."


def _header(source: Source, path: Path) -> dict[str, StoredTensor]:
    """What one safetensors file holds."""
    found = {}
    try:
        with safe_open(path, framework="pt") as opened:
            for name in tensor_names(opened):
                stored = opened.get_slice(name)
                found[name] = StoredTensor(path, str(stored.get_dtype()), tuple(stored.get_shape()))
    except (SafetensorError, OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            f"{source.name} has a {path.name} that cannot be read ({first}): check that its files are complete."
        ) from None
    if not found:
        raise ModelError(f"{source.name} has a {path.name} without tensors: check that its files are complete.")
    return found
