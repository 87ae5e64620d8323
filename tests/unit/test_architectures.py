"""Every architecture against plain transformers: what is listed, read, replaced, frozen, scored, and seen inside."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig

from explorer.attribution import score
from explorer.core.errors import ModelError
from explorer.core.keys import ATTENTION, Kind, MatrixKey
from explorer.masks.activations import read_prompt
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mode
from explorer.measure.batches import Batch, answer_logits, batches
from explorer.measure.metrics import run
from explorer.models import Model, View, load
from explorer.models.architectures import ARCHITECTURES
from explorer.models.matrices import (
    heads,
    hf_weights,
    input_hook,
    kinds,
    matrices,
    output_hook,
    parts_of,
    read,
    read_bias,
    replace,
    restore,
    shape,
)
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import tiny
from tests.families import FAMILIES, HEADS, LAYERS, Family

TOKENS = torch.tensor([[0, 5, 9, 3, 11, 7, 20, 2], [0, 4, 4, 19, 8, 6, 7, 1]])
PROMPT = "w3 w1 w4 w1 w5 w9 w2"
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.save(tmp_path_factory.mktemp("family"))


def with_our_words(folder: Path, dtype: str) -> Model:
    """The model; transformers puts a tokenizer of its own in the place of any other that comes with a Qwen2."""
    return dataclasses.replace(load(str(folder), dtype=dtype, device="cpu"), tokenizer=tiny.tokenizer())


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return with_our_words(folder, "float32")


@pytest.fixture(scope="module")
def model64(folder: Path) -> Model:
    return with_our_words(folder, "float64")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Any:
    """The model as plain transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def plain_logits(plain: Any, weights: dict[str, Tensor]) -> Tensor:
    """Logits of plain transformers with these weights; modules get the biases that they lack."""
    other = copy.deepcopy(plain)
    for name in weights.keys() - other.state_dict().keys():
        module = other.get_submodule(name.removesuffix(".bias"))
        assert name.endswith(".bias")
        assert module.bias is None
        module.bias = torch.nn.Parameter(torch.zeros_like(weights[name]))
    other.load_state_dict(weights, strict=True)
    with torch.no_grad():
        logits: Tensor = other(TOKENS).logits
    return logits


def stacked(view: View, layer: int | None = None) -> tuple[MatrixKey, ...]:
    return matrices(view, layers=None if layer is None else [layer], per_head=False)


def test_every_supported_class_is_tested() -> None:
    assert {type(family.build()).__name__ for family in FAMILIES.values()} == set(ARCHITECTURES)


@pytest.mark.slow
def test_logits_are_those_of_plain_transformers(model: Model, plain: Any) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model.view().logits(TOKENS), plain(TOKENS).logits, **CLOSE)


def test_every_matrix_is_listed_with_its_shape_and_bias(family: Family, model: Model) -> None:
    view = model.view()
    assert kinds(view) == family.kinds
    assert {kind: heads(view, kind) for kind in ATTENTION} == {
        Kind.Q: HEADS,
        Kind.K: family.kv_heads,
        Kind.V: family.kv_heads,
        Kind.O: HEADS,
    }
    assert len(stacked(view)) == LAYERS * len(family.kinds)
    assert len(matrices(view)) == LAYERS * (2 * HEADS + 2 * family.kv_heads + len(family.kinds) - 4)
    for key in stacked(view):
        assert shape(view, key) == family.shape(key.kind), key
        bias = read_bias(view, key)
        assert (bias is not None) == (key.kind in family.biased.split()), key
        assert bias is None or bias.shape == (family.shape(key.kind)[1],)
    for key in matrices(view, [Kind.Q, Kind.K, Kind.V]):
        assert shape(view, key) == (family.shape(key.kind)[0], family.d_head)
    for key in matrices(view, [Kind.O]):
        assert shape(view, key) == (family.d_head, family.shape(Kind.O)[1])


def test_matrices_times_recorded_inputs_give_recorded_outputs(model: Model) -> None:
    view = model.view()
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        kept[hook.name] = value.flatten(2)

    names = [name for key in stacked(view) for name in (input_hook(key), output_hook(key))]
    with torch.no_grad(), view.bridge.hooks(fwd_hooks=[(name, keep) for name in names]):
        view.logits(TOKENS)
    for key in stacked(view):
        x, y = kept[input_hook(key)], kept[output_hook(key)]
        bias = read_bias(view, key)
        b = torch.zeros(y.shape[-1]) if bias is None else bias
        torch.testing.assert_close(y, x @ read(view, key) + b, **CLOSE)
        if not key.kind.has_heads:
            continue
        parts = matrices(view, [key.kind], [key.layer])
        if key.kind is Kind.O:
            by_head = [x[..., parts_of(view, part)[0]] @ read(view, part) for part in parts]
            torch.testing.assert_close(y, sum(by_head, b), **CLOSE)
        else:
            by_head = [x @ read(view, part) + b[parts_of(view, part)[1]] for part in parts]
            torch.testing.assert_close(y, torch.cat(by_head, dim=-1), **CLOSE)


def test_weights_are_shared_with_the_checkpoint_and_between_views(family: Family, model: Model) -> None:
    view, other = model.view(), model.view()
    owned = {weight.untyped_storage().data_ptr() for weight in model.weights().values()}
    for key in stacked(view):
        weight = read(view, key)
        assert weight.data_ptr() == read(other, key).data_ptr()
        copied = family.copied and key.kind in family.fused.split()
        assert (weight.untyped_storage().data_ptr() in owned) == (not copied), key


def test_an_untouched_view_has_the_checkpoints_own_weights(model: Model, plain: Any) -> None:
    found, expected = hf_weights(model.view()), plain.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert weight.data_ptr() == model.weights()[name].data_ptr()
        assert torch.equal(weight, expected[name])


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries that differ, as they are after; every other tensor must be the very same one."""
    assert before.keys() == after.keys()
    for name in before:
        if torch.equal(before[name], after[name]):
            assert before[name].data_ptr() == after[name].data_ptr(), f"{name} was copied"
    return {
        name: after[name][before[name] != after[name]] for name in before if not torch.equal(before[name], after[name])
    }


@pytest.mark.slow
def test_a_replaced_matrix_changes_exactly_its_entries_of_the_checkpoint(
    family: Family, model: Model, plain: Any
) -> None:
    view = model.view()
    before = hf_weights(view)
    torch.manual_seed(3)
    per_head = [
        next(key for key in matrices(view, [kind], [0]) if key.head == heads(view, kind) - 1) for kind in ATTENTION
    ]
    for key in (*stacked(view, 1), *per_head):
        W = torch.randn(shape(view, key)) * 0.4
        replace(view, key, W)
        after = hf_weights(view)
        (name, entries), *others = changed(before, after).items()
        assert not others, key
        assert name.endswith(".weight")
        assert f".{key.layer}." in name
        assert torch.equal(entries.sort().values, W.flatten().sort().values), key
        torch.testing.assert_close(view.logits(TOKENS), plain_logits(plain, after), **CLOSE)
        assert (view.logits(TOKENS) - model.view().logits(TOKENS)).abs().max() > 1e-3, key
        restore(view, key)
        assert changed(before, hf_weights(view)) == {}
    assert model.current_digest() == model.digest


def test_several_replaced_matrices_of_one_module_all_reach_the_checkpoint(model: Model, plain: Any) -> None:
    view = model.view()
    torch.manual_seed(4)
    for key in stacked(view):
        replace(view, key, torch.randn(shape(view, key)) * 0.4)
    torch.testing.assert_close(view.logits(TOKENS), plain_logits(plain, hf_weights(view)), **CLOSE)


def frozen(view: View, task: Task, svds: SvdCache) -> None:
    """Put a freeze mask of two values per kind onto the view, per head where there are heads."""
    keys = [key for key in matrices(view, layers=[0]) if key.head in (None, 0)]
    scored = score(view, task, svds, keys)
    removed = [scored.removed(key, index) for key, index in itertools.product(keys, (0, 1))]
    assert max(abs(one.c) for one in removed) > 1e-3
    apply(view, mask_of(view, scored, removed), svds)


@pytest.mark.slow
def test_the_empty_mask_is_the_identity_bit_for_bit(model: Model, tiny_task: Task, svds: SvdCache) -> None:
    view = model.view()
    before = view.logits(TOKENS)
    apply(view, empty_mask(model), svds)
    assert torch.equal(view.logits(TOKENS), before)
    frozen(view, tiny_task, svds)
    assert (view.logits(TOKENS) - before).abs().max() > 1e-3
    apply(view, empty_mask(model), svds)
    assert torch.equal(view.logits(TOKENS), before)
    assert changed(model.weights(), hf_weights(view)) == {}


@pytest.mark.slow
def test_a_freeze_mask_is_weights_and_biases_of_the_checkpoint(
    family: Family, model: Model, plain: Any, tiny_task: Task, svds: SvdCache
) -> None:
    view = model.view()
    frozen(view, tiny_task, svds)
    weights = hf_weights(view)
    torch.testing.assert_close(view.logits(TOKENS), plain_logits(plain, weights), **CLOSE)
    stored = ARCHITECTURES[model.architecture]
    unbiased = [kind for kind in family.kinds if kind not in family.biased.split()]
    expected = {f"{stored.module(0, kind)}.bias" for kind in unbiased}
    assert weights.keys() - model.weights().keys() == expected


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_gradient_scores_are_the_slope_of_the_loss(model64: Model, tiny_task: Task, svds: SvdCache, mode: Mode) -> None:
    view = model64.view()
    keys = [
        next(key for key in matrices(view, [kind], [place % LAYERS]) if key.head in (None, place % heads(view, Kind.K)))
        for place, kind in enumerate(kinds(view))
    ]
    scored = score(view, tiny_task, svds, keys, mode=mode)
    largest = max(float(matrix.score.abs().max()) for matrix in scored.matrices.values())
    assert largest > 1e-2
    ready = batches(view, tiny_task, tiny_task.train)
    for place, key in enumerate(keys):
        index = place % 3
        W, bias = read(view, key).clone(), read_bias(view, key)
        b = None if bias is None else bias.clone()
        d = svds.get(view, key)
        part, shift = d.part([index]), d.s[index] * scored.matrices[key].c[index] * d.vh[index]

        def loss(t: float) -> float:
            moved = None if mode == "zero" else (0.0 if b is None else b) + t * shift  # noqa: B023
            replace(view, key, W - t * part, moved)  # noqa: B023
            with torch.no_grad():
                return sum(float(run(view, batch).loss.sum()) for batch in ready) / len(tiny_task.train)

        h = 0.001  # OPT's ReLUs have kinks
        slope = (loss(-2 * h) - 8 * loss(-h) + 8 * loss(h) - loss(2 * h)) / (12 * h)
        restore(view, key)
        assert float(scored.matrices[key].score[index]) == pytest.approx(slope, rel=1e-3, abs=1e-3 * largest), key


@pytest.mark.slow
def test_a_batch_of_several_lengths_equals_one_at_a_time(model: Model, plain: Any, tiny_task: Task) -> None:
    view = model.view()
    (whole,) = batches(view, tiny_task, tiny_task.train)
    assert not whole.real.all()
    alone = batches(view, tiny_task, tiny_task.train, 1)
    together = answer_logits(view, whole)
    torch.testing.assert_close(together, torch.cat([answer_logits(view, one) for one in alone]), **CLOSE)
    torch.testing.assert_close(together, torch.cat([plain_answer_logits(plain, one) for one in alone]), **CLOSE)


def plain_answer_logits(plain: Any, batch: Batch) -> Tensor:
    with torch.no_grad():
        logits: Tensor = plain(batch.tokens).logits
    return logits[batch.rows, batch.keep[batch.columns]]


def test_the_inside_of_a_model_is_its_own(model: Model, plain: Any) -> None:
    found = read_prompt(model.view(), PROMPT)
    assert len(found.ids) == 1 + len(PROMPT.split())
    with torch.no_grad():
        own = plain(torch.tensor([found.ids]), output_hidden_states=True, output_attentions=True)
    for pattern, expected in zip(found.attention, own.attentions, strict=True):
        torch.testing.assert_close(pattern, expected[0], **CLOSE)
    for residual, expected in zip(found.residual, own.hidden_states[:-1], strict=False):
        torch.testing.assert_close(residual, expected[0], **CLOSE)
    torch.testing.assert_close(found.lens[-1], own.logits[0, -1].log_softmax(dim=-1), **CLOSE)


REFUSED: dict[str, tuple[PreTrainedConfig, str]] = {
    "experts of Mixtral": (
        hf.MixtralConfig(num_local_experts=4),
        "is a MixtralForCausalLM, a mixture of experts: a router sends each token",
    ),
    "experts of Qwen 2": (hf.Qwen2MoeConfig(num_experts=4), "is a Qwen2MoeForCausalLM, a mixture of experts"),
    "experts of Qwen 3": (hf.Qwen3MoeConfig(num_experts=4), "is a Qwen3MoeForCausalLM, a mixture of experts"),
    "experts of OLMo": (hf.OlmoeConfig(num_experts=4), "is a OlmoeForCausalLM, a mixture of experts"),
    "experts of DeepSeek": (hf.DeepseekV3Config(), "is a DeepseekV3ForCausalLM, a mixture of experts"),
    "an unknown class": (
        hf.StableLmConfig(),
        "is a StableLmForCausalLM, whose matrices are not in the registry: supported are GPT2LMHeadModel, GPTNeoFor",
    ),
    "no attention": (hf.MambaConfig(), "is a MambaForCausalLM, whose matrices are not in the registry"),
    "GPTQ": (
        hf.LlamaConfig(quantization_config={"quant_method": "gptq", "bits": 4}),
        r"stores quantised weights \(gptq\), whose rounding would swallow an edit: give the model with",
    ),
    "bitsandbytes": (
        hf.LlamaConfig(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"stores quantised weights \(bitsandbytes\)",
    ),
    "norms of Phi": (hf.PhiConfig(qk_layernorm=True), "is a PhiForCausalLM with norms on its queries and keys"),
    "NeoX without biases": (hf.GPTNeoXConfig(attention_bias=False), "is a GPTNeoXForCausalLM with attention without"),
    "ALiBi of Falcon": (hf.FalconConfig(alibi=True), "is a FalconForCausalLM with ALiBi positions"),
    "one norm of Falcon": (
        hf.FalconConfig(new_decoder_architecture=True, num_ln_in_parallel_attn=1),
        "is a FalconForCausalLM with one layer norm before both halves",
    ),
    "OPT without final norm": (
        hf.OPTConfig(do_layer_norm_before=False),
        "is a OPTForCausalLM with no final layer norm",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_edited_faithfully_is_refused_by_name(name: str, tmp_path: Path) -> None:
    config, words = REFUSED[name]
    config.architectures = [hf.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].__name__]
    config.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=words) as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
