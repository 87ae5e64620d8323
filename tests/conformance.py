"""Configurations of every family: the switches that its class has, and which of them are refused.

A variant is a family of `tests.families` with other options. Whether it is to be refused is stated here, from what the
classes of transformers do, not asked of the explorer: a right model that is refused fails as a wrong one that is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests import tiny
from tests.families import FAMILIES, WINDOW, Family

LIMIT, PADDED = 8, len(tiny.WORDS) + 9
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A family with some options, and what of its folder differs from the usual one.

    Attributes:
        family: of `tests.families`.
        options: of its configuration class, beside the family's own.
        stored: type of the stored weights.
        bos: whether the tokenizer has a BOS.
    """

    family: str
    options: Options = dataclasses.field(default_factory=dict)
    stored: str = "float32"
    bos: bool = True

    @property
    def all(self) -> Options:
        """All options of the configuration."""
        return {**FAMILIES[self.family].options, **self.options}

    def built(self) -> Family:
        """The family as it is to be built; biases need not be those that it states."""
        return dataclasses.replace(FAMILIES[self.family], options=dict(self.all))

    @property
    def class_name(self) -> str:
        """Such as `LlamaConfig`."""
        config: Any = FAMILIES[self.family].config
        return str(config.__name__)

    @property
    def possible(self) -> bool:
        """Whether transformers can run it; of Falcon's switches, not all go together."""
        new, norms = self.all.get("new_decoder_architecture"), self.all.get("num_ln_in_parallel_attn")
        return self.class_name != "FalconConfig" or (self.all.get("parallel_attn", True) if new else norms != 2)

    @property
    def refused(self) -> bool:
        """Whether the hooks cannot run it rightly, so that it must be refused."""
        given = self.all
        wrong = _WRONG.get(self.class_name, lambda _: False)
        return not given.get("is_causal", True) or bool(given.get("use_bidirectional_attention")) or wrong(given)


_WRONG: dict[str, Callable[[Options], bool]] = {
    "GPT2Config": lambda given: not given.get("scale_attn_weights", True),
    "PhiConfig": lambda given: bool(given.get("qk_layernorm")),
    "GPTNeoXConfig": lambda given: not given.get("attention_bias", True),
    "FalconConfig": lambda given: bool(
        given["alibi"] or (given.get("new_decoder_architecture") and given.get("num_ln_in_parallel_attn") == 1)
    ),
    "OPTConfig": lambda given: (
        given["word_embed_proj_dim"] == given["hidden_size"]
        and (not given.get("do_layer_norm_before", True) or bool(given.get("_remove_final_layer_norm")))
    ),
}

_ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu")
_CAPS = (None, 1.0, 30.0)
_WINDOWS = (None, WINDOW, 6, 4096)
_LAYERS = (["sliding_attention", "full_attention"], ["full_attention"] * 2, ["sliding_attention"] * 2)
# Options and their values by configuration class; the first value is the usual one.
SWITCHES: dict[str, dict[str, tuple[Any, ...]]] = {
    "GPT2Config": {
        "scale_attn_weights": (True, False),
        "scale_attn_by_inverse_layer_idx": (False, True),
        "reorder_and_upcast_attn": (False, True),
        "add_cross_attention": (False, True),
        "activation_function": ("gelu_new", "relu", "silu"),
        "layer_norm_epsilon": (1e-5, 1e-2),
    },
    "GPTNeoConfig": {
        "attention_types": ([[["global", "local"], 1]], [[["local"], 2]], [[["global"], 2]]),
        "window_size": (WINDOW, 6, 256),
        "activation_function": ("gelu_new", "relu"),
    },
    "GPTJConfig": {"rotary_dim": (2, 4), "activation_function": ("gelu_new", "relu")},
    "GPTNeoXConfig": {
        "attention_bias": (True, False),
        "use_parallel_residual": (True, False),
        "hidden_act": _ACTIVATIONS,
        "layer_norm_eps": (1e-5, 1e-2),
    },
    "OPTConfig": {
        "do_layer_norm_before": (True, False),
        "_remove_final_layer_norm": (False, True),
        "enable_bias": (True, False),
        "layer_norm_elementwise_affine": (True, False),
        "word_embed_proj_dim": (16, 8),
        "activation_function": ("relu", "gelu"),
    },
    "PhiConfig": {"qk_layernorm": (False, True), "hidden_act": _ACTIVATIONS, "num_key_value_heads": (4, 2, 1)},
    "Phi3Config": {"sliding_window": _WINDOWS, "num_key_value_heads": (2, 4, 1), "hidden_act": ("silu", "gelu")},
    "LlamaConfig": {
        "attention_bias": (False, True),
        "mlp_bias": (False, True),
        "head_dim": (6, 4, 8),
        "num_key_value_heads": (2, 4, 1),
        "hidden_act": ("silu", "gelu"),
        "rms_norm_eps": (1e-6, 1e-2),
    },
    "MistralConfig": {"sliding_window": _WINDOWS, "head_dim": (6, 4), "num_key_value_heads": (2, 4, 1)},
    "Qwen2Config": {
        "use_sliding_window": (True, False),
        "sliding_window": (WINDOW, 6),
        "max_window_layers": (1, 0, 2),
        "num_key_value_heads": (2, 4, 1),
    },
    "Qwen3Config": {
        "attention_bias": (False, True),
        "use_sliding_window": (False, True),
        "sliding_window": (WINDOW, 6),
        "max_window_layers": (1, 0, 2),
        "head_dim": (6, 4),
    },
    "GemmaConfig": {"hidden_activation": ("gelu_pytorch_tanh", "silu"), "attention_bias": (False, True)},
    "Gemma2Config": {
        "attn_logit_softcapping": (2.0, *_CAPS),
        "final_logit_softcapping": (3.0, *_CAPS),
        "query_pre_attn_scalar": (5, 256),
        "sliding_window": (WINDOW, 6),
        "layer_types": _LAYERS,
        "attention_bias": (False, True),
    },
    "Gemma3TextConfig": {
        "attn_logit_softcapping": _CAPS,
        "final_logit_softcapping": _CAPS,
        "query_pre_attn_scalar": (5, 256),
        "sliding_window": (WINDOW, 6),
        "layer_types": _LAYERS,
        "attention_bias": (False, True),
        "use_bidirectional_attention": (False, True),
    },
    "Olmo2Config": {"attention_bias": (False, True), "num_key_value_heads": (2, 4), "rms_norm_eps": (1e-6, 1e-2)},
    "FalconConfig": {
        "alibi": (False, True),
        "bias": (False, True),
        "parallel_attn": (True, False),
        "multi_query": (True, False),
        "num_ln_in_parallel_attn": (None, 1, 2),
    },
    "BloomConfig": {
        "apply_residual_connection_post_layernorm": (False, True),
        "slow_but_exact": (False, True),
        "layer_norm_epsilon": (1e-5, 1e-2),
    },
}
ROPES = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
_ROTATED = {  # configuration classes with `rope_parameters`, and how many coordinates of a head are rotated
    "GPTNeoXConfig": lambda given: int(4 * given.get("rotary_pct", 0.25)),
    "PhiConfig": lambda given: 2,
    "Phi3Config": lambda given: 4,
    "LlamaConfig": lambda given: given["head_dim"],
    "MistralConfig": lambda given: given["head_dim"],
    "Qwen2Config": lambda given: 4,
    "Qwen3Config": lambda given: given["head_dim"],
    "GemmaConfig": lambda given: given["head_dim"],
    "Gemma2Config": lambda given: given["head_dim"],
    "Gemma3TextConfig": lambda given: given["head_dim"],
    "Olmo2Config": lambda given: 4,
    "FalconConfig": lambda given: 4,
}


def ropes(case: Case) -> tuple[str, ...]:
    """The kinds of rotation that a class allows, the usual one left out."""
    if case.class_name not in _ROTATED:
        return ()
    if case.class_name == "Phi3Config":  # its own check of the configuration
        return ("longrope",)
    narrow = _ROTATED[case.class_name](case.all) <= 2  # for which `dynamic` divides by zero
    return tuple(kind for kind in ROPES[1:] if not (narrow and kind == "dynamic"))


def rotated(case: Case, kind: str) -> Case:
    """The case with another kind of rotation; `longrope` and `yarn` change within the prompts of the tests."""
    half = max(1, _ROTATED[case.class_name](case.all) // 2)
    base = {"rope_type": kind, "rope_theta": 100.0}
    if case.class_name in ("GPTNeoXConfig", "PhiConfig"):
        base["partial_rotary_factor"] = case.all.get("rotary_pct", 0.25 if case.class_name == "GPTNeoXConfig" else 0.5)
    more: dict[str, dict[str, Any]] = {
        "linear": {"factor": 2.0},
        "dynamic": {"factor": 4.0},
        "yarn": {"factor": 2.0, "original_max_position_embeddings": LIMIT},
        "llama3": {
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": LIMIT,
        },
        "longrope": {
            "short_factor": [1.0 + 0.1 * i for i in range(half)],
            "long_factor": [3.0 + 2.0 * i for i in range(half)],
            "original_max_position_embeddings": LIMIT,
        },
    }
    stated: Any = {**base, **more.get(kind, {})}
    if case.class_name == "Gemma3TextConfig":
        stated = {"full_attention": stated, "sliding_attention": {"rope_type": "default", "rope_theta": 10.0}}
    options = {**case.options, "rope_parameters": stated}
    if case.class_name == "Phi3Config":
        options["original_max_position_embeddings"] = LIMIT
    return dataclasses.replace(case, options=options)


def table() -> Iterator[Case]:
    """Every family with one thing changed at a time; the switches of a class in its first family."""
    done: set[str] = set()
    for name in FAMILIES:
        usual = Case(name)
        yield usual
        yield dataclasses.replace(usual, bos=False)
        yield Case(name, {"vocab_size": PADDED})
        yield Case(name, {"tie_word_embeddings": not usual.all.get("tie_word_embeddings", True)})
        yield dataclasses.replace(usual, stored="bfloat16")
        yield Case(name, {"is_causal": False})
        if usual.class_name in done:
            continue
        done.add(usual.class_name)
        for kind in ropes(usual):
            yield rotated(usual, kind)
        for option, values in SWITCHES[usual.class_name].items():
            own = usual.all.get(option, values[0])
            changed = (Case(name, {option: value}) for value in values if value != own)
            yield from (case for case in changed if case.possible)
