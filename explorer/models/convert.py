"""`.bin` checkpoints, once into safetensors: tensors are taken out of them, and code in them is never run.

torch's `weights_only` reader knows tensors, numbers, texts, lists and dicts; anything else in the file ends it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from explorer.core.errors import ModelError
from explorer.core.files import new_folder, write_json
from explorer.core.progress import Progress
from explorer.models.files import (
    ADAPTER,
    BIN,
    BIN_INDEX,
    CONFIG,
    INDEX,
    WEIGHTS,
    inside,
    model_files,
    require_ordinary,
    weight_map,
)
from explorer.models.hub import PATTERNS, reason
from explorer.models.sources import Source

_COPIED = tuple(pattern for pattern in PATTERNS if pattern != "*.safetensors")


def convert_bin(folder: Path, out: Path, progress: Progress | None = None) -> int:
    """Write the model in a folder of `pytorch_model.bin`, whole or in shards, to `out` as a safetensors folder.

    Values and types stay as they are stored; configuration and tokenizer are copied. `out` appears only when complete.

    Args:
        folder: a Hugging Face folder; it stays as it is.
        out: a folder that is not there yet, or is empty.
        progress: told (done, total) in shards.

    Returns:
        The number of tensors.

    Raises:
        ModelError: nothing to convert, files that hold more than tensors or are broken, or `out` cannot be written.
    """
    name = str(folder)
    if not folder.is_dir():
        raise ModelError(f"{name} is no folder: give a Hugging Face folder with {BIN}.")
    require_ordinary(name, folder / CONFIG)
    if (folder / ADAPTER).exists():
        raise ModelError(f"{name} has an adapter ({ADAPTER}): merge it with peft's `merge_and_unload` first.")
    shards, listed = _shards(name, folder)
    try:
        if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
            raise ModelError(f"{out} is there already: give --out the name of a new folder.")
        with new_folder(out) as staging:
            count = _convert(name, shards, listed, staging=staging, progress=progress)
            _copy(folder, staging)
            model_files(Source(name, staging, name))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{out} cannot be written ({reason(error)}): choose another place.") from None
    return count


def _shards(name: str, folder: Path) -> tuple[list[Path], dict[str, Path]]:
    """The pickled files, and the file of every tensor that an index lists."""
    for path in (folder / BIN, folder / BIN_INDEX):
        if not (path.exists() or path.is_symlink()):
            continue
        if path.name == BIN:
            require_ordinary(name, path)
            return [path], {}
        listed = weight_map(name, path)
        paths = inside(name, path, dict.fromkeys(listed.values()))
        for shard in paths.values():
            require_ordinary(name, shard)
        return sorted(paths.values()), {tensor: paths[file] for tensor, file in listed.items()}
    raise ModelError(f"{name} has neither {BIN} nor {BIN_INDEX}: there is nothing to convert.")


def _convert(name: str, shards: list[Path], listed: dict[str, Path], staging: Path, progress: Progress | None) -> int:
    """Each pickled file becomes one safetensors file."""
    placed: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, start=1):
        tensors = dict(_tensors(name, shard))
        for tensor in tensors:
            if tensor in placed:
                raise ModelError(f"{name} holds {tensor[:120]} in two of its files: get its files again.")
        target = WEIGHTS if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        placed.update(dict.fromkeys(tensors, target))
        for tensor, path in listed.items():
            if path == shard and tensor not in tensors:
                raise ModelError(
                    f"{name} lacks the weight {tensor[:120]}, which its index says is in {shard.name}: "
                    "check that it is complete."
                )
        save_file(tensors, staging / target, metadata={"format": "pt"})
        total += sum(one.numel() * one.element_size() for one in tensors.values())
        if progress is not None:
            progress(number, len(shards))
    if len(shards) > 1:
        write_json(staging / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})
    return len(placed)


def _tensors(name: str, path: Path) -> Iterator[tuple[str, Tensor]]:
    """What a pickled file holds, each tensor with storage of its own."""
    try:
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken files fail in many ways, and what is no tensor in one more
        logging.getLogger(__name__).debug("reading a pickled file failed", exc_info=True)
        what = "objects other than tensors" if "weights_only" in str(error).lower() else reason(error)
        raise ModelError(
            f"{name} has a {path.name} that cannot be read safely ({what}): get it from a source that you trust as "
            "safetensors; code in it was not run."
        ) from None
    if not isinstance(stored, dict) or not stored:
        raise ModelError(f"{name} has a {path.name} that holds no weights by name: expected a state dict.")
    seen: set[int] = set()
    for key, value in stored.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout is not torch.strided:
            raise ModelError(
                f"{name} has a {path.name} with {str(key)[:80]!r}, which is no dense tensor: expected a state dict."
            )
        if value.is_quantized or value.device.type != "cpu":
            raise ModelError(f"{name} stores {key[:120]} quantised: give the model with its full-precision weights.")
        own = value.detach().contiguous()
        pointer = own.untyped_storage().data_ptr()
        yield key, own.clone() if pointer in seen or own.untyped_storage().nbytes() > own.nbytes else own
        seen.add(pointer)


def _copy(folder: Path, staging: Path) -> None:
    """Everything small that belongs to a model: configuration, tokenizer, chat template."""
    for path in sorted(folder.iterdir()):
        wanted = any(fnmatch(path.name, pattern) for pattern in _COPIED) and not path.name.endswith(".index.json")
        if wanted and path.is_file():
            shutil.copyfile(path, staging / path.name)
