"""Load a model once: weights from safetensors, frozen, behind a TransformerLens bridge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from explorer.core.config import DTYPES, settings
from explorer.core.errors import ModelError, SettingsError
from explorer.core.progress import Progress, part
from explorer.models.adapters import located
from explorer.models.agreement import Fidelity
from explorer.models.architectures import check_config
from explorer.models.bridge import hooked
from explorer.models.culprits import config_error, configured
from explorer.models.delta import DeltaBase, Described, delta_base
from explorer.models.fidelity import compare, reference
from explorer.models.fields import check_fields
from explorer.models.files import ModelFiles, NoWeightsError, model_files
from explorer.models.folding import fold
from explorer.models.hub import reason
from explorer.models.identity import (
    NOT_EVALUATED,
    STORED_TYPES,
    Parts,
    config_digest,
    content,
    stored_weights,
    tokenizer_digests,
)
from explorer.models.model import Basis, Model, View, copy_bridge, in_basis
from explorer.models.sources import Source
from explorer.models.spread import AUTO, place
from explorer.models.tokenizer_files import read_tokenizer
from explorer.models.weights import check_stored, read_weights


def load(
    name: str,
    *,
    basis: str = "raw",
    against: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Model:
    """Load a causal language model by name, hub id, local folder or .gguf file.

    Args:
        name: a name of `NAMED`, a folder, a .gguf file, or a hub id with an optional `@revision`; behind it, perhaps, a
            LoRA adapter, `BASE+adapter=FOLDER`.
        basis: `raw`, `folded` or `delta`: what its matrices are; outputs are the same within rounding.
        against: of `delta`, the base model whose weights are subtracted, named as a model is.
        progress: told (done, total).
        dtype: `float32`, `float64`, `bfloat16` or `float16`; the settings' type if None.
        device: torch device, or `auto` for all GPUs together (`explorer.models.spread`); the settings' device if None.

    Raises:
        ModelError: unknown name, no network, not a causal LM, a broken file, norms that cannot be folded, a hooked
            copy that differs from plain transformers, or a base that cannot be subtracted.
        SettingsError: an unknown dtype or basis; `delta` without a base, or another basis with one.
    """
    chosen, wanted = as_basis(basis), settings().dtype if dtype is None else dtype
    if wanted not in DTYPES:
        raise SettingsError(f"dtype {wanted!r} is not known: choose one of {', '.join(DTYPES)}.")
    check_against(chosen, against)
    source = located(name, part(progress, 0.0, 0.5))
    base = None if against is None else _base(source, located(against))
    model, tokenizer, parts, stored = _read(source, getattr(torch, wanted), device or settings().device)
    expected = reference(source.name, model, tokenizer)
    if chosen == "folded":
        fold(source.name, model)
    weights, state = _distinct(model), {name: weight.detach() for name, weight in model.state_dict().items()}
    if progress is not None:
        progress(8, 10)
    loaded = Model(
        source=source,
        digest=parts.digest(in_basis(chosen, base)),
        parts=parts,
        basis=chosen,
        tokenizer=tokenizer,
        parameters_count=sum(weight.numel() for weight in weights.values()),
        architecture=type(model).__name__,
        bridge=hooked(source, model),
        _weights=weights,
        _state=state,
        _content=content(weights),
        _stored=stored,
        against=base,
    )
    view = loaded.view()
    loaded = replace(loaded, fidelity=compare(view, expected))
    view.model = loaded  # the view that was looked at is as good as new: the first one to ask gets it
    loaded._ready.append(view)
    if progress is not None:
        progress(10, 10)
    return loaded


def check_whole(model: Model) -> Fidelity:
    """Compare a raw model with plain transformers once more, all of its blocks and on longer prompts than a load does.

    Raises:
        ModelError: it differs, it is folded, or its files are gone or have changed since it was loaded.
    """
    plain, tokenizer = read_again(model)
    expected = reference(model.source.name, plain, tokenizer, whole=True)
    del plain
    return compare(View(model, copy_bridge(model.bridge)), expected)


def read_again(model: Model) -> tuple[Any, Any]:
    """Another Hugging Face model with the same weights, not shared, and its tokenizer, read from the model's files.

    Raises:
        ModelError: a folded model, which no file holds, or files that are gone or have changed since it was loaded.
    """
    if model.basis == "folded":
        raise ModelError(f"{model.source.name} is loaded in the {model.basis} basis: load it in the raw one.")
    shared = model.bridge.original_model
    device = AUTO if len(model.devices) > 1 else str(shared.device)
    copy, tokenizer, parts, _ = _read(model.source, shared.dtype, device)
    if parts != model.parts:
        raise ModelError(f"the files of {model.source.name} have changed since it was loaded: load it again.")
    return copy, tokenizer


def as_basis(text: str) -> Basis:
    """Check the name of a basis; raises SettingsError."""
    known: dict[str, Basis] = {basis: basis for basis in get_args(Basis)}
    if text not in known:
        raise SettingsError(f"basis {text[:40]!r} is not known: choose one of {', '.join(known)}.")
    return known[text]


def check_against(basis: str, against: str | None) -> None:
    """Raise SettingsError unless a base to subtract is given for the basis `delta`, and for no other."""
    if basis == "delta" and not against:
        raise SettingsError("the basis delta is the difference from a base model: give that, too (--delta-base).")
    if basis != "delta" and against is not None:
        raise SettingsError(f"a base model ({against[:80]}) is subtracted in the basis delta only: add --basis delta.")


def _base(source: Source, base: Source) -> DeltaBase:
    """The model that is subtracted from another one: whether it can be is known before large files are read."""
    tuned, other = (Described(one, *_described(one)) for one in (source, base))
    return delta_base(tuned, other)


def _described(source: Source) -> tuple[ModelFiles, Any]:
    class_name, config, files = read_config(source)
    return files, check_stored(source, files, config, class_name=class_name)


def read_config(source: Source) -> tuple[str, Any, ModelFiles]:
    """The Hugging Face class and configuration of a model, and its files, of whose weights the headers are read.

    What is wrong with the architecture is said before missing weights are: getting those would be no use.

    Raises:
        ModelError: it cannot be used, or describes no causal language model whose matrices can be reached.
    """
    from transformers import AutoConfig

    missing = None
    try:
        files = model_files(source)
    except NoWeightsError as error:
        missing, files = error, ModelFiles(source.folder, error.fields, (), tensors={})
    check_fields(source.name, files)
    try:
        config = AutoConfig.from_pretrained(str(source.folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # besides ValueError and OSError, each library's own validation errors
        raise config_error(source.name, files, configured, error=error) from None
    class_name = _check_causal(source, config)
    if missing is not None:
        raise missing
    return class_name, config, files


def _read(source: Source, dtype: torch.dtype, device: str) -> tuple[Any, Any, Parts, frozenset[torch.dtype]]:
    """The Hugging Face model, its tokenizer, what they are, before anything is changed, and the types of its files."""
    if device != AUTO:
        check_device(source.name, device)
    class_name, config, files = read_config(source)
    said, usual = config.to_dict(), _usual(config)
    tokenizer = read_tokenizer(source)
    model = read_weights(source, files, config, class_name=class_name, dtype=dtype)
    with ThreadPoolExecutor(1) as beside:  # hashing leaves the interpreter to others
        hashed = beside.submit(stored_weights, files.weights, _distinct(model), str(model.base_model_prefix))
        digested = partial(
            config_digest, usual=usual, class_name=class_name, attention=model.config._attn_implementation
        )
        before = [
            {name: one for name, one in said.items() if name not in left}
            for left in (("pad_token_id",), NOT_EVALUATED - {"pad_token_id"}, NOT_EVALUATED)
        ]
        read = tokenizer_digests(tokenizer)
        exact = digested(said, exact=True), read.exact
        unfilled = frozenset(digested(one, exact=True) for one in before), read.unfilled
        weights, stored = hashed.result()
    parts = Parts(weights, digested(said), read.read, stored=stored, exact=exact, unfilled=unfilled)
    types = frozenset(STORED_TYPES[one.dtype] for one in files.tensors.values() if one.dtype in STORED_TYPES)
    return place(source.name, model, device).eval().requires_grad_(False), tokenizer, parts, types


def check_device(name: str, device: str) -> None:
    """Refuse a device on which no numbers can be computed here.

    Args:
        name: the model's name, for the message.
        device: torch device, such as `cpu` or `cuda:1`.

    Raises:
        ModelError: unknown, not on this machine, or one such as `meta` that holds no numbers.
    """
    try:
        if float(torch.ones((), device=device) + 1) == 2:
            return
        why = "it computes wrongly"
    except Exception as error:  # each backend that is not there fails in its own way
        why = reason(error)
    raise ModelError(f"{name} cannot be put on device {device[:40]!r} ({why}): set another, such as cpu.")


def _usual(config: Any) -> dict[str, Any]:
    """What a configuration of this class says that was told nothing."""
    try:
        return dict(type(config)().to_dict())
    except Exception:  # a class that must be told something
        return {}


def _check_causal(source: Source, config: Any) -> str:
    """The class that the configuration builds, if it is one that can be used."""
    names = config.architectures or []
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise ModelError(
            f"{source.name} does not name its architecture in config.json: expected a causal language model."
        )
    if not names[0].endswith(("ForCausalLM", "LMHeadModel")):
        raise ModelError(
            f"{source.name} is a {names[0]}, not a causal language model: give one that predicts next tokens."
        )
    class_name = _class_name(config) or str(names[0])
    check_config(source.name, class_name, config)
    return class_name


def _class_name(config: Any) -> str | None:
    """Name of the class that transformers builds from a configuration, whatever the configuration says of itself."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return None
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return str((found[0] if isinstance(found, tuple) else found).__name__)


def _distinct(model: Any) -> dict[str, Tensor]:
    """Every weight once, under its first name: tied weights share their storage."""
    seen: set[int] = set()
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.data_ptr() not in seen:
            seen.add(parameter.data_ptr())
            weights[name] = parameter.data
    return weights
