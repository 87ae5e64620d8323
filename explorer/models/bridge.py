"""Hooks on a loaded model: TransformerLens' bridge, and what must be mended on it before its weights can be edited."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from explorer.core.errors import ModelError
from explorer.core.keys import Kind
from explorer.models.architectures import ARCHITECTURES
from explorer.models.hub import reason
from explorer.models.sources import Source


def hooked(source: Source, model: Any) -> Any:
    """The bridge of a loaded Hugging Face model, frozen, every matrix a module of its own, without a tokenizer.

    TransformerLens sets BOS, EOS and padding on the tokenizer that it is handed, where it has none, and would read text
    with them: the model's own tokenizer is not shown to it.

    Raises:
        ModelError: TransformerLens cannot hook this model.
    """
    from transformer_lens.model_bridge import TransformerBridge

    name = type(model).__name__
    try:
        with _own_architecture(model), _grouped_falcon(model):
            bridge = TransformerBridge.boot_transformers(str(source.folder), hf_model=model, tokenizer=_stand_in())
    except Exception as error:  # adapters fail in their own ways on models they were not written for
        logging.getLogger(__name__).debug("bridging failed", exc_info=True)
        raise ModelError(f"{source.name} is a {name}, which TransformerLens cannot hook ({reason(error)}).") from None
    bridge.tokenizer = None
    if name == "FalconForCausalLM":
        _mend_falcon(bridge, model)
    if name == "Gemma3ForCausalLM":
        for block in bridge.blocks:  # TransformerLens caps attention scores by it, Gemma 3's own attention does not
            block.attn.original_component.attn_logit_softcapping = None
    if name == "OPTForCausalLM" and not hasattr(bridge, "ln_final"):  # not known to it where outputs are projected
        bridge.ln_final = model.model.decoder.final_layer_norm
    for parameter in bridge.parameters():
        parameter.requires_grad_(False)
    return bridge.eval()


def _stand_in() -> Any:
    """A tokenizer of one word, for TransformerLens to set up."""
    words = Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=words, unk_token="<|endoftext|>")


@contextmanager
def _own_architecture(model: Any) -> Iterator[None]:
    """Let TransformerLens go by the class that there is: config.json may name another one, as transformers ignores."""
    before = model.config.architectures
    model.config.architectures = [type(model).__name__]
    try:
        yield
    finally:
        model.config.architectures = before


@contextmanager
def _grouped_falcon(model: Any) -> Iterator[None]:
    """Hide `multi_query`, which Falcon's new decoder ignores, from TransformerLens, which takes it for one KV head."""
    config = model.config
    hide = type(model).__name__ == "FalconForCausalLM" and config.new_decoder_architecture and config.multi_query
    if hide:
        config.multi_query, config.num_key_value_heads = False, config.num_kv_heads
    try:
        yield
    finally:
        if hide:
            config.multi_query = True
            del config.num_key_value_heads


def _mend_falcon(bridge: Any, model: Any) -> None:
    """Two repairs that TransformerLens 4.3 needs for Falcon.

    1. It gives every FalconLinear a forward bound to the shared model's weight, so that an edit on a view would do
       nothing; the class's own forward reads the view's.
    2. It splits the new decoder's fused Q, K, V as if each were in one piece; they are grouped by KV head.
    """
    for module in bridge.original_model.modules():
        if type(module).__name__ == "FalconLinear":
            vars(module).pop("forward", None)
    if not model.config.new_decoder_architecture:
        return
    stored = ARCHITECTURES["FalconForCausalLM"]
    for block in bridge.blocks:
        fused = block.attn.original_component.get_submodule("query_key_value")
        fused = getattr(fused, "original_component", fused)
        parts = {kind: block.attn.get_submodule(kind.lower()).original_component for kind in (Kind.Q, Kind.K, Kind.V)}
        widths = {kind: part.weight.shape[0] for kind, part in parts.items()}
        for kind, part in parts.items():
            outputs = stored.outputs(kind, widths, model.config.num_kv_heads)
            part.weight = nn.Parameter(fused.weight.detach()[outputs])
            if fused.bias is not None:
                part.bias = nn.Parameter(fused.bias.detach()[outputs])
