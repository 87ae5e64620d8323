"""Load a model once: weights from safetensors, frozen, behind a TransformerLens bridge."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from explorer.architectures import check_config
from explorer.config import DTYPES, settings
from explorer.errors import ModelError, SettingsError
from explorer.files import digest
from explorer.models.bridge import hooked
from explorer.models.hub import reason
from explorer.models.sources import Source, locate
from explorer.models.view import View, copy_bridge
from explorer.progress import Progress, part
from explorer.tensors import tensor_bytes


@dataclass(frozen=True, eq=False)
class Model:
    """One loaded model, shared by all sessions and never changed: work happens on `view()`s.

    Attributes:
        source: where it came from.
        digest: SHA-256 over names, shapes, types and bytes of all weights.
        basis: `raw`, the weights as in the checkpoint.
        tokenizer: the Hugging Face tokenizer.
        parameters_count: number of weights, tied ones once.
        architecture: class name of the Hugging Face model.
    """

    source: Source
    digest: str
    basis: Literal["raw", "folded"]
    tokenizer: Any
    parameters_count: int
    architecture: str
    bridge: Any = field(repr=False)
    _weights: dict[str, Tensor] = field(repr=False)
    _state: dict[str, Tensor] = field(repr=False)

    def view(self) -> View:
        """A private copy of the modules that shares every weight: edits on it leave this model as it is."""
        return View(self, copy_bridge(self.bridge))

    def weights(self) -> dict[str, Tensor]:
        """The Hugging Face state dict as it was loaded, tied weights under each of their names; no copies."""
        return dict(self._state)

    def current_digest(self) -> str:
        """The digest of the weights as they are now in memory; equals `digest` as long as nothing mutated them."""
        return weights_digest(self._weights)


def load(name: str, *, dtype: str | None = None, device: str | None = None, progress: Progress | None = None) -> Model:
    """Load a causal language model by name, hub id, local folder or .gguf file.

    Args:
        name: a name of `NAMED`, a folder, a .gguf file, or a hub id with an optional `@revision`.
        progress: told (done, total).
        dtype: `float32`, `float64`, `bfloat16` or `float16`; the settings' type if None.
        device: torch device; the settings' device if None.

    Raises:
        ModelError: unknown name, no network, not a causal LM, a broken file.
        SettingsError: an unknown dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise SettingsError(f"dtype {dtype!r} is not known: choose one of {', '.join(DTYPES)}.")
    wanted = dtype or settings().dtype
    if wanted not in DTYPES:
        raise SettingsError(f"dtype {wanted!r} is not known: choose one of {', '.join(DTYPES)}.")
    source = locate(name, part(progress, 0.0, 0.5))
    model, tokenizer = _read(source, getattr(torch, wanted), device or settings().device)
    weights, state = _distinct(model), {name: weight.detach() for name, weight in model.state_dict().items()}
    if progress is not None:
        progress(8, 10)
    loaded = Model(
        source=source,
        digest=weights_digest(weights),
        basis="raw",
        tokenizer=tokenizer,
        parameters_count=sum(weight.numel() for weight in weights.values()),
        architecture=type(model).__name__,
        bridge=hooked(source, model, tokenizer),
        _weights=weights,
        _state=state,
    )
    if progress is not None:
        progress(10, 10)
    return loaded


def weights_digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over the sorted names, shapes, types and bytes of `weights`."""

    def parts() -> Iterator[bytes | memoryview]:
        for name in sorted(weights):
            weight = weights[name]
            yield f"{name} {tuple(weight.shape)} {weight.dtype};".encode()
            yield tensor_bytes(weight)

    return digest(parts())


def _read(source: Source, dtype: torch.dtype, device: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = str(source.folder)
    model: Any
    report: Any
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # besides ValueError and OSError, each library's own validation errors
        raise ModelError(f"{source.name} has a config.json that transformers cannot use ({reason(error)}).") from None
    _check_causal(source, config)
    if not list(source.folder.glob("*.safetensors")):
        raise ModelError(f"{source.name} has no safetensors weights in {folder}: save it with `save_pretrained` first.")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        model, report = loaded
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the readers raise their own types, SafetensorError among them
        logging.getLogger(__name__).debug("loading failed", exc_info=True)
        raise ModelError(
            f"{source.name} cannot be read ({reason(error)}): check that its files are complete."
        ) from None
    _check_complete(source, report, tokenizer)
    try:
        return model.to(device).eval().requires_grad_(False), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{source.name} cannot be put on device {device!r} ({reason(error)}): set another.") from None


def _check_causal(source: Source, config: Any) -> None:
    names = list(config.architectures or [])
    if not names:
        raise ModelError(
            f"{source.name} does not name its architecture in config.json: expected a causal language model."
        )
    if not names[0].endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelError(
            f"{source.name} is a {names[0]}, not a causal language model: give one that predicts next tokens."
        )
    check_config(source.name, _class_name(config) or names[0], config)


def _class_name(config: Any) -> str | None:
    """Name of the class that transformers builds from a configuration, whatever the configuration says of itself."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def _check_complete(source: Source, report: Any, tokenizer: Any) -> None:
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ModelError(
            f"{source.name} lacks {len(missing)} of its weights, such as {missing[0]}: check that it is complete."
        )
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes up an empty one without a word
        raise ModelError(f"{source.name} has no tokenizer in {source.folder}: save the tokenizer there too.")


def _distinct(model: Any) -> dict[str, Tensor]:
    """Every weight once, under its first name: tied weights share their storage."""
    seen: set[int] = set()
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            weights[name] = parameter.data
    return weights
