"""LoRA adapters in the format of PEFT (Hu et al. 2021, arXiv 2106.09685), merged into their base model's weights.

`W' = W + scale * B A` for every module that the adapter has factors of, `A: [r, d_in]`, `B: [d_out, r]`; the scale is
alpha / r, or alpha / sqrt(r) where the adapter says `use_rslora`. Sums are taken in float32 (float64 for such weights).
A bias of B (`lora_bias`) is added to the module's own, times the scale.

The merged model is a folder of its own in the cache, found by the content of base and adapter: whatever reads a model's
files reads the merged weights, and its identity covers both. Folders that nobody has used for a day go when all take
more than the cache may have. Nothing but JSON and safetensors is read.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from explorer.core.config import settings
from explorer.core.errors import ModelError
from explorer.core.files import digest, file_digest, typed_path
from explorer.core.progress import Progress, part
from explorer.models.architectures import architecture
from explorer.models.conversions import SOURCE_FILE, made_once
from explorer.models.files import ADAPTER, CONFIG, ModelFiles, model_files, read_object
from explorer.models.sources import Source, locate

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTED = "+adapter="  # between the name of a base model and the folder of its adapter
IN_USE_SECONDS = 24 * 3600.0  # a merged model that was used within them stays: somebody may have it open
_BESIDE = (".json", ".txt", ".model", ".jinja")
_FACTOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>A\.weight|B\.weight|B\.bias)")
# Settings of an adapter that make another sum of it than the one above.
_REFUSED: Mapping[str, str] = {
    "use_dora": "magnitudes of its own (DoRA)",
    "modules_to_save": "whole modules",
    "trainable_token_indices": "rows of the embedding",
    "target_parameters": "parameters that are no module's",
    "alora_invocation_tokens": "tokens that switch it on",
    "arrow_config": "a router",
}


@dataclass(frozen=True)
class LowRankFactors:
    """The factors of one module.

    Attributes:
        A, B: `[r, d_in]` and `[d_out, r]`.
        scale: of their product, and of the bias.
        bias: `[d_out]`; None if there is none, or it is zero.
    """

    A: Tensor
    B: Tensor
    scale: float
    bias: Tensor | None = None

    def difference(self) -> Tensor:
        """`[d_out, d_in]`, in float32 or wider."""
        wide = torch.promote_types(torch.promote_types(self.A.dtype, self.B.dtype), torch.float32)
        return self.scale * (self.B.to(wide) @ self.A.to(wide))


@dataclass(frozen=True)
class MergedFolder:
    """A merged model in the cache: its folder, its size in bytes, and when it was used (seconds since 1970)."""

    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class _Changes:
    """What an adapter adds to stored weights by their names; `conv1d`: they are stored as `[d_in, d_out]`."""

    factors: Mapping[str, LowRankFactors]
    biases: Mapping[str, Tensor]
    conv1d: bool
    progress: Progress | None

    def applied(self, name: str, W: Tensor) -> Tensor:
        """A stored weight with what is added to it, not rounded back to a short type."""
        if name in self.biases:
            wide = torch.promote_types(W.dtype, torch.float32)
            return W.to(wide) + self.biases[name].to(wide)
        if name not in self.factors:
            return W
        added = self.factors[name].difference()
        wide = torch.promote_types(W.dtype, added.dtype)
        return (W.to(wide) + (added.T if self.conv1d else added).to(wide)).contiguous()


def located(name: str, progress: Progress | None = None) -> Source:
    """The model that the user means, with the adapter that its name may have: `BASE+adapter=FOLDER`.

    Raises:
        ModelError: as `explorer.models.sources.locate` and `merged`.
    """
    base, apart, folder = name.strip().partition(ADAPTED)
    if not apart:
        return locate(name, progress)
    path = typed_path(folder)
    if path is None or not path.is_dir():
        raise ModelError(f"{folder[:80]!r} is no folder: give that of a LoRA adapter of PEFT.")
    found = locate(base, part(progress, 0.0, 0.5))
    return merged(found, path.resolve(), settings().cache_dir / "models", progress=part(progress, 0.5, 1.0))


def adapted(name: str, folder: Path | str | None) -> str:
    """The name of a model with an adapter.

    Raises:
        ModelError: the name has an adapter already.
    """
    if folder is None:
        return name
    if ADAPTED in name:
        raise ModelError(f"{name[:120]} has an adapter already: give one of them.")
    return f"{name}{ADAPTED}{Path(folder).expanduser().resolve()}"


def merged(base: Source, folder: Path, models_dir: Path, progress: Progress | None = None) -> Source:
    """The base model with the adapter in a folder, merged on first use.

    Raises:
        ModelError: no LoRA adapter, one of another base, rank or target, one that is more than a sum of factors, or no
            room for the result.
    """
    factors = read_factors(folder)
    files = model_files(base)
    conv1d = architecture(base.name, str((files.fields.get("architectures") or ["?"])[0])).conv1d
    stored = {_place(base, files, folder, change=change, conv1d=conv1d): change[1] for change in factors.items()}
    biases = {
        _bias_place(base, files, weight, folder=folder): factor.scale * factor.bias.to(torch.float32)
        for weight, factor in stored.items()
        if factor.bias is not None
    }
    parts = [
        *(file_digest(path) for path in files.weights),
        *(file_digest(folder / one) for one in (ADAPTER, ADAPTER_WEIGHTS)),
    ]
    name = digest([repr(parts).encode(), (files.folder / CONFIG).read_bytes()]).removeprefix("sha256:")
    into = models_dir / f"adapted-{name[:16]}"
    record = {"origin": f"{base.origin}{ADAPTED}{folder}", "revision": f"sha256:{name}"}
    changes = _Changes(stored, biases, conv1d, progress=progress)
    made_once(into, record, lambda staging: _write(files, changes, staging))
    _touch(into)
    remove_unused(models_dir, settings().cache_bytes)
    return Source(f"{base.name}{ADAPTED}{folder}", into, record["origin"], revision=record["revision"])


def read_factors(folder: Path) -> dict[str, LowRankFactors]:
    """The factors of an adapter by module, such as `transformer.h.0.attn.c_attn`.

    Raises:
        ModelError: no adapter in the folder, or one that is more than a sum of factors.
    """
    if not (folder / ADAPTER).is_file():
        raise ModelError(f"{folder} holds no {ADAPTER}: give the folder of a LoRA adapter of PEFT.")
    fields = read_object(str(folder), folder / ADAPTER)
    if fields.get("peft_type") != "LORA":
        kind = str(fields.get("peft_type"))[:40]
        raise ModelError(f"{folder} is an adapter of the type {kind}: only LORA can be merged here.")
    for field, what in _REFUSED.items():
        if fields.get(field):
            raise ModelError(f"{folder} has {what} ({field}): merge it with peft's `merge_and_unload` and save that.")
    if fields.get("bias", "none") != "none":
        raise ModelError(f"{folder} trains biases, too: merge it with peft's `merge_and_unload` and save that.")
    sides = _sides(folder)
    found = {}
    for module, pair in sides.items():
        A, B, bias = (pair.get(side) for side in ("A.weight", "B.weight", "B.bias"))
        if A is None or B is None or A.ndim != 2 or B.ndim != 2 or len(A) != B.shape[1]:
            raise ModelError(f"{folder} has no pair of factors that fit for {module[:80]}: get its files again.")
        rank = _setting(fields, "rank_pattern", module, usual=fields.get("r"))
        if rank != len(A):
            raise ModelError(
                f"{folder} says rank {str(rank)[:20]} for {module[:80]}, but its factors have {len(A)}: get its files "
                "again."
            )
        alpha = _setting(fields, "alpha_pattern", module, usual=fields.get("lora_alpha"))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ModelError(f"{folder} has lora_alpha {str(alpha)[:20]}: expected a number.")
        if bias is not None and bias.shape != (len(B),):
            shape = list(bias.shape)
            raise ModelError(f"{folder} has a bias of shape {shape} for {module[:80]}: get its files again.")
        scale = alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank)
        found[module] = LowRankFactors(A, B, scale, bias=bias if bias is not None and bool(bias.any()) else None)
    return found


def _sides(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Both factors of each module."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ModelError(f"{folder} holds no {ADAPTER_WEIGHTS}: save the adapter as safetensors.")
    found: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                factor = _FACTOR.fullmatch(name)
                if factor is None:
                    raise ModelError(
                        f"{folder} holds {name[:120]}, which is no factor of a matrix: merge it with peft's "
                        "`merge_and_unload` and save that."
                    )
                tensor = opened.get_tensor(name)
                if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                    raise ModelError(f"{folder} holds numbers in {name[:120]} that are not finite: get it again.")
                found.setdefault(factor["module"], {})[factor["side"]] = tensor
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read ({error}): get it again.") from None
    if not found:
        raise ModelError(f"{folder} changes no matrix: give another adapter.")
    return found


def _setting(fields: Mapping[str, Any], pattern: str, module: str, usual: Any) -> Any:
    """What an adapter says of a module: by a pattern of its name, as PEFT reads it, or for all."""
    patterns = fields.get(pattern) or {}
    for key, value in patterns.items() if isinstance(patterns, dict) else ():
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except re.error:
            raise ModelError(f"the adapter's {pattern} has {str(key)[:40]!r}, which is no pattern.") from None
    return usual


def _place(base: Source, files: ModelFiles, folder: Path, *, change: tuple[str, LowRankFactors], conv1d: bool) -> str:
    """The stored weight of a module; refuses what the base has no place for."""
    module, factor = change
    whole = f"{module}.weight"
    name = next((one for one in (whole, whole.partition(".")[2]) if one in files.tensors), None)
    if name is None:
        raise ModelError(
            f"the adapter {folder} changes {module[:80]}, which {base.name} does not have: give its own base model."
        )
    d_out, d_in = len(factor.B), factor.A.shape[1]
    expected = (d_in, d_out) if conv1d else (d_out, d_in)
    if files.tensors[name].shape != expected:
        raise ModelError(
            f"the adapter {folder} changes {module[:80]} as a matrix of {list(expected)}, but that of {base.name} is "
            f"{list(files.tensors[name].shape)}: give its own base model."
        )
    return name


def _bias_place(base: Source, files: ModelFiles, weight: str, folder: Path) -> str:
    """The stored bias beside a stored weight; refuses a base that has none there."""
    name = weight.removesuffix("weight") + "bias"
    if name not in files.tensors:
        module = weight.removesuffix(".weight")[:80]
        raise ModelError(
            f"the adapter {folder} adds a bias to {module}, of which {base.name} has none: give an adapter without "
            "biases, such as one exported with --zero."
        )
    return name


def merged_folders(models_dir: Path) -> list[MergedFolder]:
    """The merged models that are kept, the longest unused first."""
    found = []
    for path in models_dir.glob("adapted-*"):
        with suppress(OSError):
            size = sum(one.stat().st_size for one in path.iterdir())
            found.append(MergedFolder(path, size, (path / SOURCE_FILE).stat().st_mtime))
    return sorted(found, key=lambda one: one.used)


def remove_unused(models_dir: Path, limit: int, seconds: float = IN_USE_SECONDS) -> int:
    """Remove merged models until all take at most so many bytes, but none that was used in the last `seconds`."""
    kept, gone = merged_folders(models_dir), 0
    total, latest = sum(one.bytes for one in kept), time.time() - seconds
    for one in kept:
        if total <= limit or one.used > latest:
            break
        shutil.rmtree(one.path, ignore_errors=True)
        total, gone = total - one.bytes, gone + 1
    return gone


def _touch(folder: Path) -> None:
    """Note that a merged model is used now; a cache that cannot be written forgets it."""
    with suppress(OSError):
        os.utime(folder / SOURCE_FILE)


def _write(files: ModelFiles, changes: _Changes, folder: Path) -> None:
    """The merged model; one file of weights is in memory at a time."""
    for done, path in enumerate(files.weights):
        if changes.progress is not None:
            changes.progress(done, len(files.weights))
        own = [name for name, one in files.tensors.items() if one.path == path]
        tensors = {name: changes.applied(name, files.read(name)) for name in own}
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
    for path in files.folder.iterdir():  # configuration, index and tokenizer
        if path.is_file() and path.suffix.lower() in _BESIDE and path.name not in (ADAPTER, SOURCE_FILE):
            shutil.copyfile(path, folder / path.name)
