"""Which model a model is: a digest over everything that decides what it computes, and over nothing else.

1. Weights as they are stored, whatever type they are loaded in and however they are cut into files; tied ones once.
2. The configuration, as far as it differs from what its class fills in by itself, but for `NOT_COMPUTED` and
   `NOT_EVALUATED`; the class that it builds, and how attention is computed. So a default that is spelled out, and a
   setting that a later version of the class adds, change nothing.
3. The tokenizer: vocabulary, merges, normaliser and the rest of its pipeline, special tokens, chat template; but not
   what only fills up batches or begins and ends texts by itself. Prompts are tokenised without special tokens, a BOS is
   put in front by its id, and batches are filled up behind an attention mask: so padding (its token too), the side of
   it, EOS and a post-processor that adds such tokens change no token that a model reads. EOS and padding tokens count
   where the chat template speaks of them.
4. The basis, and of the `delta` basis the stored weights of the model that is subtracted.

Two models with one digest read the same tokens and give the same numbers for them, in the same type on the same
device. The one thing that does look at padding, EOS and post-processor is what is done as the released code does it,
so numbers that are kept are kept under the `exactly` of a model, which is the identity as it was before these were left
out of it. Masks of before hold that one.
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
# What is at work only while a model is trained, and the padding token: its embedding row differs by its gradient alone.
NOT_EVALUATED = frozenset(
    {
        "attn_pdrop", "resid_pdrop", "embd_pdrop", "attention_dropout", "resid_dropout", "hidden_dropout",
        "embed_dropout", "activation_dropout", "dropout", "layerdrop", "pad_token_id",
    }
)  # fmt: skip
_FILLING = ("padding_side", "truncation_side", "add_bos_token", "add_eos_token")  # settings of a fast tokenizer
_ENDS = ("eos_token", "pad_token")
_POST = '"post_processor":'
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
        exact: configuration and tokenizer with what changes no token that is read and no number (point 3), as they are.
        unfilled: what these may have been before somebody set a padding token, or a dropout, and saved the model again.
    """

    weights: str
    config: str
    tokenizer: str
    stored: str = "float32"
    exact: tuple[str, str] = ("", "")
    unfilled: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())

    def digest(self, basis: str) -> str:
        """The identity, in a basis."""
        return _identity(self.weights, self.config, self.tokenizer, basis=basis)

    def exactly(self, basis: str) -> str:
        """The identity with everything that configuration and tokenizer say of the computation, needed or not."""
        return _identity(self.weights, *self.exact, basis=basis)

    def earlier(self, basis: str) -> frozenset[str]:
        """What identities of this model may have been before."""
        configs, tokenizers = self.unfilled
        return frozenset(
            _identity(self.weights, config, tokenizer, basis=basis)
            for config in configs | {self.exact[0]}
            for tokenizer in tokenizers | {self.exact[1]}
        )


def _identity(weights: str, config: str, tokenizer: str, basis: str) -> str:
    return digest([repr((FORMAT, weights, config, tokenizer, basis)).encode()])


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
        weights: every weight once, as loaded from them, under its name in the model; or without numbers, on the `meta`
            device: then all are read from the files.
        prefix: what names in the model may begin with and names in the files need not, or the other way round.
    """
    places = _places(files, prefix)
    if not {_short(name, prefix) for name in weights} <= places.keys():  # the loader made weights out of others
        return digest(_stored_parts(places)), _usual(places.values())
    found: dict[str, _Stored | _Lazy] = {}
    for name, weight in weights.items():
        place = places[_short(name, prefix)]
        if (
            not weight.is_meta
            and place.dtype is not None
            and torch.promote_types(place.dtype, weight.dtype) == weight.dtype
        ):
            found[name] = _Lazy(weight, place.dtype)  # nothing was lost when it was read
        else:
            found[name] = place
    return digest(_stored_parts(found)), _usual(found.values())


def config_digest(
    settings: Mapping[str, Any],
    usual: Mapping[str, Any],
    class_name: str,
    attention: str | None,
    *,
    exact: bool = False,
) -> str:
    """Digest of what a configuration says about the computation.

    Args:
        settings: the configuration with its defaults, as `to_dict` of its class gives them.
        usual: the same of a configuration of this class that says nothing.
        class_name: of the model that was built from it.
        attention: which implementation of attention the model runs.
        exact: keep what is at work only in training, as identities of before did.
    """
    given, default = _computed(settings), _computed(usual)
    if not exact:
        given = {name: value for name, value in given.items() if name not in NOT_EVALUATED}
    said = {name: value for name, value in given.items() if name not in default or default[name] != value}
    known = {"class": class_name, "type": given.get("model_type"), "attention": attention, "config": said}
    return digest([json.dumps(known, sort_keys=True, default=str).encode()])


@dataclass(frozen=True)
class TokenizerDigests:
    """Digests of a tokenizer.

    Attributes:
        read: of what it does with the texts that models are given here.
        exact: of all that it says, but for how it pads and cuts: what identities of before held.
        unfilled: `exact` as it would be with and without its padding token, and padding on either side.
    """

    read: str
    exact: str
    unfilled: frozenset[str]


def tokenizer_digests(tokenizer: Any) -> TokenizerDigests:
    """Digests of a Hugging Face tokenizer."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    pipeline = _pipeline(tokenizer, fast)
    settings = {name: getattr(tokenizer, name, None) for name in _TOKENIZER_SETTINGS}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    known: dict[str, Any] = {
        "class": None if fast is not None else type(tokenizer).__name__,
        "settings": settings,
        "special": special,
        "ids": [*ends, tokenizer.pad_token_id, tokenizer.unk_token_id],
    }
    if getattr(tokenizer, "split_special_tokens", False):  # the pipeline's own text leaves it out
        known["split_special_tokens"] = True
    alone = {
        "special": {name: token for name, token in special.items() if name != "pad_token"},
        "ids": [*ends, None, tokenizer.unk_token_id],
    }
    unfilled = [
        _said({**known, **padding, "settings": {**settings, "padding_side": side}}, pipeline)
        for padding in ({}, alone)
        for side in ("left", "right")
    ]
    return TokenizerDigests(_read_digest(tokenizer, known, pipeline), _said(known, pipeline), frozenset(unfilled))


def _read_digest(tokenizer: Any, known: dict[str, Any], pipeline: Sequence[bytes]) -> str:
    """See `TokenizerDigests.read`."""
    template = str(known["settings"]["chat_template"] or "")
    silent = {name for name in _ENDS if name not in template}
    fast = known["class"] is None
    said = {
        **known,
        "settings": {name: one for name, one in known["settings"].items() if not fast or name not in _FILLING},
        "special": {name: token for name, token in known["special"].items() if name not in silent},
        "ids": [tokenizer.bos_token_id, tokenizer.unk_token_id],
    }
    return _said(said, [_without_post(pipeline[0])] if fast else pipeline)


def _said(known: dict[str, Any], pipeline: Sequence[bytes]) -> str:
    return digest([json.dumps(known, sort_keys=True, default=str).encode(), *pipeline])


def _without_post(pipeline: bytes) -> bytes:
    """A fast tokenizer's pipeline without a post-processor that does nothing to texts read without special tokens."""
    text = pipeline.decode()
    start = text.index(_POST) + len(_POST)  # inside of a text its quotes would be escaped
    found, end = json.JSONDecoder().raw_decode(text, start)
    return (text[:start] + "null" + text[end:]).encode() if _does_nothing(found) else pipeline


def _does_nothing(post: Any) -> bool:
    kind = None if post is None else post.get("type")
    if kind == "Sequence":
        return all(map(_does_nothing, post.get("processors", [])))
    if kind == "TemplateProcessing":
        return [piece["Sequence"]["id"] for piece in post.get("single", []) if "Sequence" in piece] == ["A"]
    return kind in (None, "ByteLevel", "BertProcessing", "RobertaProcessing")


def _pipeline(tokenizer: Any, fast: Any) -> list[bytes]:
    """All that turns text into tokens."""
    if fast is None:
        words = [sorted(tokenizer.get_vocab().items()), sorted(tokenizer.get_added_vocab().items())]
        vocabulary = Path(str(getattr(tokenizer, "vocab_file", None) or ""))
        return [json.dumps(words).encode(), *([vocabulary.read_bytes()] if vocabulary.is_file() else [])]
    padding, truncation = fast.padding, fast.truncation
    try:
        fast.no_padding()
        fast.no_truncation()
        return [fast.to_str().encode()]
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
