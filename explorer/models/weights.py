"""Weights into their class: whether every stored tensor has its place is known before anything is allocated.

1. `check_stored`: the class is built on the `meta` device and given tensors of the stored shapes but no storage, by
   transformers' own code, so that its renaming of old names is what counts. What is missing, left over or of another
   shape is refused, and so is a config.json from which no model can be built. Spectra that are read without loading
   start here too.
2. Tensors that are tied by the configuration must not be stored with different values.
3. The tensors are read into the class; weights that are not finite are refused by name. transformers is given the
   tensors and no folder: it looks for no adapter, no further checkpoint and no other file. A tensor that is stored in
   the type that it is loaded in stays mapped: its memory is the system's file cache. One of another type is copied,
   and the file's pages are let go tensor by tensor, so that there never are two copies of a model.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from explorer.core.errors import ModelError
from explorer.models.culprits import config_error, configured
from explorer.models.fields import check_layers
from explorer.models.files import ModelFiles, StoredTensor
from explorer.models.hub import reason
from explorer.models.identity import STORED_TYPES
from explorer.models.sources import Source

# Buffers that old checkpoints store though the class makes them itself, and how many dimensions they have.
_HARMLESS: tuple[tuple[re.Pattern[str], tuple[int, ...]], ...] = (
    (re.compile(r"\.(attn|attention|attn\.attention)\.bias$"), (4,)),  # a causal mask, which no bias is
    (re.compile(r"\.(attn|attention|attn\.attention)\.masked_bias$"), (0, 1)),
    (re.compile(r"rotary_emb\.inv_freq$"), (1,)),
    (re.compile(r"(^|\.)position_ids$"), (1, 2)),
)
_FREQUENCIES = 1_000_000  # numbers of a table that is made to be looked at; no head is as wide
_FLOATS = ("F64", "F32", "F16", "BF16")


def read_weights(source: Source, files: ModelFiles, config: Any, class_name: str, dtype: torch.dtype) -> Any:
    """The Hugging Face model with the weights of its files, on the CPU.

    Args:
        source: where it is.
        files: its files; every tensor in them is used or known to be harmless.
        config: its Hugging Face configuration.
        class_name: the class that the configuration builds.
        dtype: the type of the loaded weights.

    Raises:
        ModelError: a tensor that is missing, left over, of another shape or type, tied but different, or not finite;
            a model larger than this machine's memory.
    """
    import transformers

    model_class: Any = getattr(transformers, class_name)
    empty = check_stored(source, files, config, class_name=class_name, dtype=dtype)
    _check_memory(source, empty)
    _check_tied(source, files, empty, prefix=model_class.base_model_prefix)
    try:
        stored = _readers(files, dtype)
        model, _ = _built(
            model_class, config=config, state_dict=stored, dtype=dtype, generation_config=_generation(files)
        )
    except Exception as error:  # the readers raise their own types, SafetensorError among them
        logging.getLogger(__name__).debug("loading failed", exc_info=True)
        raise ModelError(
            f"{source.name} cannot be read ({reason(error)}): check that its files are complete."
        ) from None
    model.config.name_or_path = str(files.folder)
    model.config.return_dict = True  # what is read off a model is read by name
    _check_finite(source, files, model)
    return model


def check_stored(
    source: Source, files: ModelFiles, config: Any, *, class_name: str, dtype: torch.dtype = torch.float32
) -> Any:
    """Check a model's configuration against the names, types and shapes of what is stored; no tensor is read.

    Args:
        source: where it is.
        files: its files.
        config: its Hugging Face configuration.
        class_name: the class that the configuration builds.
        dtype: the type of the model that is returned.

    Returns:
        The model on the `meta` device, without numbers.

    Raises:
        ModelError: a tensor that is missing, left over, stored twice, of another shape or type; a field from which no
            model can be built.
    """
    import transformers

    model_class: Any = getattr(transformers, class_name)
    _check_types(source, files)
    check_layers(source.name, files, "num_hidden_layers", layers=int(config.num_hidden_layers))
    _check_twice(source, files, model_class.base_model_prefix)
    shapes = {name: torch.empty(one.shape, dtype=dtype, device="meta") for name, one in files.tensors.items()}

    def built(fitting: Any) -> tuple[Any, Any]:
        with torch.device("meta"):  # some classes make tables while weights are initialised
            return _built(
                model_class,
                config=fitting,
                state_dict=dict(shapes),
                dtype=dtype,
                device_map="meta",
                ignore_mismatched_sizes=True,
            )

    try:
        model, report = built(config)
    except Exception as error:  # each class fails in its own way
        logging.getLogger(__name__).debug("no model can be built", exc_info=True)
        raise config_error(source.name, files, lambda fields: built(configured(fields)), error=error) from None
    _check_fit(source, files, model, report=report)
    _check_rotations(source, files, model)
    return model


def from_state(class_name: str, config: Any, state: dict[str, Tensor], dtype: str) -> Any:
    """The model of a class with these tensors, which it shares; those that it has no place for are left out."""
    import transformers

    model, _ = _built(getattr(transformers, class_name), config=config, state_dict=state, dtype=getattr(torch, dtype))
    return model


@dataclass(frozen=True)
class _Converted:
    """A tensor that is loaded in another type than its own; read, like a slice of an opened file, with `[...]`."""

    files: ModelFiles
    name: str

    def __getitem__(self, where: Any) -> Any:
        return self.files.read(self.name)[where]


def _readers(files: ModelFiles, dtype: torch.dtype) -> dict[str, Any]:
    """What each tensor is read by: slices of files that stay open, or of one that is opened for this tensor alone."""
    opened: dict[Path, Any] = {path: safe_open(path, framework="pt") for path in files.weights}
    return {
        name: opened[one.path].get_slice(name) if STORED_TYPES.get(one.dtype) == dtype else _Converted(files, name)
        for name, one in files.tensors.items()
    }


def _built(model_class: Any, **options: Any) -> tuple[Any, Any]:
    """The model that transformers builds from tensors alone, and its report."""
    with _without_bar():
        built: tuple[Any, Any] = model_class.from_pretrained(None, output_loading_info=True, **options)
    return built


@contextmanager
def _without_bar() -> Iterator[None]:
    """Let transformers show no progress bar of its own; what the user has set stays."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_types(source: Source, files: ModelFiles) -> None:
    for name, tensor in files.tensors.items():
        if tensor.dtype not in _FLOATS and not _harmless(name, tensor):
            raise ModelError(
                f"{source.name} stores {name[:120]} as {tensor.dtype}, which is packed or quantised: "
                f"give the model with its full-precision weights ({', '.join(_FLOATS)})."
            )


def _harmless(name: str, stored: StoredTensor) -> bool:
    """Whether the class makes such a tensor itself, whatever is stored."""
    return any(names.search(name) and len(stored.shape) in dimensions for names, dimensions in _HARMLESS)


def _check_twice(source: Source, files: ModelFiles, prefix: str) -> None:
    """A tensor may be stored with or without the name of the base model, but not both ways."""
    for name in files.tensors:
        if f"{prefix}.{name}" in files.tensors:
            raise ModelError(
                f"{source.name} stores both {name[:120]} and {prefix}.{name[:120]}, which are the same weight: "
                "get its files again."
            )


def _check_rotations(source: Source, files: ModelFiles, model: Any) -> None:
    """Refuse frequencies that are no numbers, with which nothing that the model says would be one."""
    kinds = {
        type(one)
        for one in model.modules()
        if any("inv_freq" in name and made.numel() <= _FREQUENCIES for name, made in one._buffers.items())
    }

    def finite(config: Any) -> None:
        for kind in kinds:
            for name, frequencies in kind(config).named_buffers():
                if not bool(torch.isfinite(frequencies).all()):
                    raise ValueError(f"its rotary frequencies {name} are not finite")

    try:
        finite(model.config)
    except ValueError as error:
        raise config_error(source.name, files, lambda fields: finite(configured(fields)), error=error) from None


def _check_fit(source: Source, files: ModelFiles, model: Any, report: Any) -> None:
    if mismatched := sorted(report["mismatched_keys"], key=str):
        name, stored, expected = mismatched[0]
        raise ModelError(
            f"{source.name} has {name} of shape {list(stored)}, but config.json says {list(expected)}: "
            "check that its files belong together."
        )
    if missing := sorted(map(str, report["missing_keys"])):
        raise ModelError(
            f"{source.name} lacks {len(missing)} of its weights, such as {missing[0]}: check that it is complete."
        )
    harmless = {name for name, one in files.tensors.items() if _harmless(name, one)}
    if unexpected := sorted({*map(str, report["unexpected_keys"]), *_passed_over(files, model)} - harmless):
        raise ModelError(
            f"{source.name} stores {len(unexpected):,} weights for which a {type(model).__name__} of its config.json "
            f"has no place, such as {unexpected[0][:120]}: check that its files belong together."
        )


def _passed_over(files: ModelFiles, model: Any) -> set[str]:
    """Stored tensors that the class drops without a word, by patterns that are meant for its old buffers."""
    prefix, patterns = f"{model.base_model_prefix}.", model._keys_to_ignore_on_load_unexpected or ()
    own = {name.removeprefix(prefix) for name in model.state_dict()}
    left = (name for name in files.tensors if name.removeprefix(prefix) not in own)
    return {name for name in left if any(re.search(pattern, name) for pattern in patterns)}


def _check_memory(source: Source, model: Any) -> None:
    """Buffers count too: some classes make tables as long as the configuration says."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    needed = sum(one.numel() * one.element_size() for one in (*model.parameters(), *model.buffers()))
    if needed > memory:
        raise ModelError(
            f"{source.name} needs {needed / 1e9:,.1f} GB in this type, but this machine has {memory / 1e9:,.1f} GB of "
            "memory: check the sizes in config.json, choose a smaller --dtype or a smaller model."
        )


def _check_tied(source: Source, files: ModelFiles, model: Any, prefix: str) -> None:
    """Step 2."""

    def stored(name: str) -> str | None:
        return next((one for one in (name, name.removeprefix(f"{prefix}.")) if one in files.tensors), None)

    for target, origin in model.all_tied_weights_keys.items():
        first, second = stored(target), stored(origin)
        if first is None or second is None or first == second:
            continue
        one, other = files.read(first), files.read(second)
        if one.shape != other.shape or not torch.equal(one.double(), other.double()):
            raise ModelError(
                f"{source.name} stores {first} with other values than {second}, though config.json says that they are "
                "tied: set tie_word_embeddings to false if the model has its own, or remove the tensor."
            )


def _check_finite(source: Source, files: ModelFiles, model: Any) -> None:
    """One sum per weight, in which NaN and infinity stay; a sum that overflows is looked at number by number."""
    prefix = f"{model.base_model_prefix}."
    for name, weight in model.named_parameters():
        if bool(torch.isfinite(weight.sum())) or bool(torch.isfinite(weight).all()):
            continue
        stored = next((one for one in (name, name.removeprefix(prefix)) if one in files.tensors), None)
        if stored is not None and bool(torch.isfinite(files.read(stored)).all()):
            raise ModelError(
                f"{source.name} has numbers in {name} that {str(weight.dtype).removeprefix('torch.')} cannot hold: "
                "load it in another type, such as bfloat16 or float32."
            )
        raise ModelError(f"{source.name} holds NaN or infinite weights in {name}: get its files again.")


def _generation(files: ModelFiles) -> Any:
    """What generation_config.json says, kept for models that are saved; None where it cannot be used."""
    from transformers import GenerationConfig

    if not (files.folder / "generation_config.json").is_file():
        return None
    try:
        return GenerationConfig.from_pretrained(str(files.folder), local_files_only=True)
    except Exception:  # nothing here generates, so that a broken one costs nothing
        logging.getLogger(__name__).debug("no generation configuration", exc_info=True)
        return None
