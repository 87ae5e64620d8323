"""Which model a model is: a digest over everything that decides what it computes, and over nothing else.

1. Weights as they are stored, whatever type they are loaded in and however they are cut into files; tied ones once.
2. The configuration, as far as it differs from what its class fills in by itself, but for `NOT_COMPUTED`; the class
   that it builds, and how attention is computed. So a default that is spelled out, and a setting that a later version
   of the class adds, change nothing.
3. The tokenizer: vocabulary, merges, normaliser and the rest of its pipeline, special tokens, chat template.
4. The basis.

Two models with one digest give the same numbers in the same type on the same device, so that these may be shared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from torch import Tensor

from explorer.core.files import digest
from explorer.models.tensors import tensor_bytes

FORMAT = "identity-1"
# Names, what only training and generation read, and what the weights' shapes say as well (an MLP's width, which some
# configurations leave out). Anything else counts, known to the class or not.
NOT_COMPUTED = frozenset(
    {
        "_commit_hash", "_model_name_or_path", "_name_or_path", "architectures", "dtype", "torch_dtype",
        "transformers_version", "tokenizer_class", "transformers.js_config", "auto_map",
        "initializer_range", "init_std", "gradient_checkpointing", "problem_type", "id2label", "label2id",
        "finetuning_task", "task_specific_params", "classifier_dropout", "summary_activation",
        "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj",
        "bos_token_id", "eos_token_id", "unk_token_id", "decoder_start_token_id", "use_cache", "return_dict",
        "output_attentions", "output_hidden_states", "n_inner", "intermediate_size",
    }
)  # fmt: skip
STORED_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
_TOKENIZER_SETTINGS = (
    "chat_template", "add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces",
    "padding_side", "truncation_side",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What a model's identity is made of, each as a digest.

    Attributes:
        weights: as they are stored.
        config: configuration and class.
        tokenizer: what turns text into tokens.
        stored: the type that most weights are stored in, such as `bfloat16`; no part of the identity beside `weights`.
    """

    weights: str
    config: str
    tokenizer: str
    stored: str = "float32"

    def digest(self, basis: str) -> str:
        """The identity, in a basis."""
        return digest([repr((FORMAT, self.weights, self.config, self.tokenizer, basis)).encode()])


def weights_digest(weights: Mapping[str, Tensor], basis: str = "raw") -> str:
    """SHA-256 over the basis, unless raw, and the sorted names, shapes, types and bytes of `weights`.

    Mask files that say nothing but a digest hold this one, over the weights in the type in which they were loaded.
    """

    def parts() -> Iterator[bytes | memoryview]:
        if basis != "raw":
            yield f"basis {basis};".encode()
        for name in sorted(weights):
            weight = weights[name]
            yield f"{name} {tuple(weight.shape)} {weight.dtype};".encode()
            yield tensor_bytes(weight)

    return digest(parts())


def content(weights: Mapping[str, Tensor]) -> str:
    """A fast checksum of names, shapes, types and bytes of weights in memory, as 32 hexadecimal letters."""
    state = xxhash.xxh3_128()
    for name in sorted(weights):
        weight = weights[name]
        state.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        state.update(tensor_bytes(weight))
    return state.hexdigest()


def stored_weights(files: Sequence[Path], weights: Mapping[str, Tensor], prefix: str) -> tuple[str, str]:
    """`weights_digest` of the weights in the types in which they are stored, and the type of most.

    Args:
        files: the model's safetensors files.
        weights: every weight once, as loaded from them, under its name in the model.
        prefix: what names in the model may begin with and names in the files need not, or the other way round.
    """
    places = _places(files, prefix)
    if not {_short(name, prefix) for name in weights} <= places.keys():  # the loader made weights out of others
        return digest(_stored_parts(places)), _usual(places.values())
    found: dict[str, _Stored | _Lazy] = {}
    for name, weight in weights.items():
        place = places[_short(name, prefix)]
        if place.dtype is not None and torch.promote_types(place.dtype, weight.dtype) == weight.dtype:
            found[name] = _Lazy(weight, place.dtype)  # nothing was lost when it was read
        else:
            found[name] = place
    return digest(_stored_parts(found)), _usual(found.values())


def config_digest(settings: Mapping[str, Any], usual: Mapping[str, Any], class_name: str, attention: str | None) -> str:
    """Digest of what a configuration says about the computation.

    Args:
        settings: the configuration with its defaults, as `to_dict` of its class gives them.
        usual: the same of a configuration of this class that says nothing.
        class_name: of the model that was built from it.
        attention: which implementation of attention the model runs.
    """
    given, default = _computed(settings), _computed(usual)
    said = {name: value for name, value in given.items() if name not in default or default[name] != value}
    known = {"class": class_name, "type": given.get("model_type"), "attention": attention, "config": said}
    return digest([json.dumps(known, sort_keys=True, default=str).encode()])


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of what a tokenizer does with text; padding and truncation, which nobody here uses, are left out."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    known: dict[str, Any] = {
        "class": None if fast is not None else type(tokenizer).__name__,
        "settings": {name: getattr(tokenizer, name, None) for name in _TOKENIZER_SETTINGS},
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "ids": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id],
    }
    if getattr(tokenizer, "split_special_tokens", False):  # the pipeline's own text leaves it out
        known["split_special_tokens"] = True
    return digest([json.dumps(known, sort_keys=True, default=str).encode(), *_pipeline(tokenizer, fast)])


def _pipeline(tokenizer: Any, fast: Any) -> Iterator[bytes]:
    """All that turns text into tokens."""
    if fast is None:
        yield json.dumps([sorted(tokenizer.get_vocab().items()), sorted(tokenizer.get_added_vocab().items())]).encode()
        vocabulary = Path(str(getattr(tokenizer, "vocab_file", None) or ""))
        if vocabulary.is_file():
            yield vocabulary.read_bytes()
        return
    padding, truncation = fast.padding, fast.truncation
    try:
        fast.no_padding()
        fast.no_truncation()
        yield fast.to_str().encode()
    finally:
        if padding is not None:
            fast.enable_padding(**padding)
        if truncation is not None:
            fast.enable_truncation(**truncation)


@dataclass(frozen=True)
class _Stored:
    """A tensor in a safetensors file."""

    file: Path
    name: str
    dtype: torch.dtype | None

    def read(self) -> Tensor:
        with safe_open(self.file, framework="pt") as opened:
            found: Tensor = opened.get_tensor(self.name)
        return found


@dataclass(frozen=True)
class _Lazy:
    """A tensor in memory that has the stored values in a wider type, or in the same."""

    weight: Tensor
    dtype: torch.dtype

    def read(self) -> Tensor:
        return self.weight.detach().to(self.dtype)


def _stored_parts(found: Mapping[str, _Stored | _Lazy]) -> Iterator[bytes | memoryview]:
    """What `weights_digest` is a digest of, one tensor in memory at a time."""
    for name in sorted(found):
        weight = found[name].read()
        yield f"{name} {tuple(weight.shape)} {weight.dtype};".encode()
        yield tensor_bytes(weight)


def _places(files: Sequence[Path], prefix: str) -> dict[str, _Stored]:
    """Where each stored tensor is, by its name without the prefix."""
    found = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                kind = STORED_TYPES.get(opened.get_slice(name).get_dtype())
                found[_short(name, prefix)] = _Stored(file, name, kind)
    return found


def _usual(stored: Iterable[_Stored | _Lazy]) -> str:
    """The type of most tensors."""
    return str(Counter(one.dtype for one in stored).most_common(1)[0][0]).removeprefix("torch.")


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(f"{prefix}.") if prefix else name


def _computed(value: Any) -> Any:
    """A configuration's value in one spelling: equal numbers alike, old names of a rope's type left out."""
    if isinstance(value, Mapping):
        kept = {str(key): _computed(part) for key, part in value.items() if str(key) not in NOT_COMPUTED}
        if "rope_type" in kept:
            kept.pop("type", None)
        return kept
    if isinstance(value, (list, tuple)):
        return [_computed(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
