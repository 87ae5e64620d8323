"""Every load compares views with plain transformers: what is refused, what is mended, what is said, and mutants."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor
from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge
from transformers import AutoModelForCausalLM

from explorer.attribution import Options, score
from explorer.core.errors import ModelError, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.activations import read_prompt
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.models import Model, View, caches, check_whole, fidelity, load
from explorer.models.agreement import ALONE, BATCH, PARTS
from explorer.models.fidelity import compare, reference
from explorer.models.model import copy_bridge
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain, tiny
from tests.commands import refused, report, run
from tests.families import FAMILIES, Family

LIMIT = 8
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1],
    "long_factor": [3.0, 5.0],
    "original_max_position_embeddings": LIMIT,
}
SHOTS = "w1 w2 w3 w4 w5 w6 w7 w8"


def variant(name: str, **options: Any) -> Family:
    family = FAMILIES[name]
    return dataclasses.replace(family, options={**family.options, **options})


def opened(family: Family, folder: Path, dtype: str = "float32") -> Model:
    """Loaded, with the tests' own words: transformers puts another tokenizer beside some families."""
    model = load(str(family.save(folder)), dtype=dtype, device="cpu")
    return dataclasses.replace(model, tokenizer=tiny.tokenizer())


def task(*rows: tuple[str, str]) -> Task:
    examples = tuple(Example(*row) for row in rows)
    return Task("words", "", examples, examples[:1], examples[:1], seed=0)


MIXED = task(
    ("w1 w2 w3", " w4"),
    ("w5 w6", " w7 w8"),
    (f"{SHOTS} w9 w1 w2", " w4 w14"),
    ("w2 w2 w19 w0 w3 w1 w5", " w6"),
    ("w2 w2 w19 w0 w3 w1", " w6"),
)
SHARED = task(*((f"{SHOTS} {end}", " w4") for end in ("w9", "w3 w4", "w1 w6 w2", "w7 w8 w1")))


def plain_losses(folder: Path, task: Task) -> list[float]:
    """Plain transformers as a user gets it, anew for each example, one at a time, without a cache."""
    found = []
    for example in task.train:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            found.append(float(plain.example_loss(model, plain.encode_words(example))))
    return found


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (variant("gpt2", scale_attn_weights=False), "scale_attn_weights is false"),
        (variant("llama", is_causal=False), "positions see later ones"),
        (variant("gpt2", is_causal=False), "positions see later ones"),
        (variant("gemma3", use_bidirectional_attention=True), "positions see later ones"),
        (variant("opt", _remove_final_layer_norm=True), "no final layer norm"),
    ],
)
def test_what_the_hooks_cannot_do_is_refused_by_name(family: Family, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        load(str(family.save(tmp_path)), device="cpu")


def test_the_net_catches_what_no_list_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same configuration, found by comparing alone."""
    monkeypatch.setattr(sys.modules["explorer.models.load"], "check_config", lambda *arguments: None)
    folder = variant("gpt2", scale_attn_weights=False).save(tmp_path)
    with pytest.raises(
        ModelError, match=r"differ from plain transformers' by 0\.\d+ nats \(0.0001 is allowed in float32"
    ):
        load(str(folder), device="cpu")
    with pytest.raises(ModelError, match="differ from plain transformers"):
        load(str(variant("llama", is_causal=False).save(tmp_path / "other")), device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        variant("gemma3", attn_logit_softcapping=1.0),
        variant("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=LIMIT),
        variant("qwen2", rope_parameters=LONGROPE),
        variant("mistral", head_dim=4, rope_parameters=LONGROPE),
        variant("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}),
        variant("gpt2", add_cross_attention=True),
        variant("opt", word_embed_proj_dim=8),
    ],
)
def test_what_can_be_mended_is_right_beside_any_neighbour(family: Family, tmp_path: Path) -> None:
    view = opened(family, tmp_path).view()
    for each in (MIXED, SHARED):
        expected = plain_losses(tmp_path, each)
        assert list(evaluate(view, each, "train").loss) == pytest.approx(expected, abs=1e-4)
        for example, loss in zip(each.train, expected, strict=True):
            alone = task((example.prompt, example.answer))
            assert evaluate(view, alone, "train").loss[0] == pytest.approx(loss, abs=1e-4)


def test_batches_stay_on_one_side_of_a_rotary_limit(tmp_path: Path) -> None:
    view = opened(variant("qwen2", rope_parameters=LONGROPE), tmp_path).view()
    cut = batches(view, MIXED, MIXED.train)
    widths = [sorted(batch.real.sum(dim=1).tolist()) for batch in cut]
    assert widths == [[4, 4, 7, 8], [13]]
    assert [view.side(length) for length in (1, LIMIT, LIMIT + 1, 16)] == [0, 0, 1, 1]
    crossing = task(*((f"w1 w2 w3 w4 w5 w6 w7 {end}", " w4") for end in ("w9", "w3 w4", "w1 w6 w2")))
    assert {batch.shared for batch in batches(view, crossing, crossing.train)} == {0}  # 8 tokens, read as a short run
    assert {batch.shared for batch in batches(view, SHARED, SHARED.train)} == {9}  # beyond it alone, too


def test_prompts_that_only_run_together_are_refused_across_a_rotary_limit(tmp_path: Path, svds: SvdCache) -> None:
    view = opened(variant("qwen2", rope_parameters=LONGROPE), tmp_path).view()
    with pytest.raises(TaskError, match="3 to 12 tokens: this model rotates long prompts otherwise"):
        score(view, MIXED, svds, [MatrixKey(0, Kind.V)], scorer="as-released", options=Options(padded_to=16))


def test_models_check_says_what_was_found(folder: Path, model: Model) -> None:
    found = report("models", "check", folder, "--dtype", "float32")
    assert (found["model"], found["model_digest"]) == (str(folder), model.digest)
    assert (found["dtype"], found["tolerance"], found["layers"], found["n_layers"]) == ("float32", 1e-4, 2, 2)
    assert found["prefixes"]
    assert found["differences"].keys() == {ALONE, BATCH, PARTS}
    assert all(0 < value < 1e-5 for value in found["differences"].values())
    shown = run("models", "check", folder)
    assert shown.exit_code == 0
    assert "all blocks run" in " ".join(shown.stdout.split())


def test_models_check_refuses(tmp_path: Path) -> None:
    said = refused("models", "check", variant("gpt2", scale_attn_weights=False).save(tmp_path))
    assert "scale_attn_weights is false" in said


def test_two_views_do_not_share_frequencies_that_change_as_they_run(tmp_path: Path) -> None:
    model = opened(variant("qwen2", rope_parameters=LONGROPE), tmp_path)
    first, second = model.view(), model.view()
    with torch.no_grad():
        first.logits(torch.arange(2, 14)[None])
        second.logits(torch.arange(2, 6)[None])
    kept = [view.bridge.original_model.model.rotary_emb.inv_freq for view in (first, second)]
    assert not torch.equal(*kept)


def test_a_cache_of_another_kind_makes_prompts_run_whole(tmp_path: Path) -> None:
    model = opened(variant("gpt2", add_cross_attention=True), tmp_path)
    assert not model.fidelity.prefixes
    assert model.fidelity.differences[PARTS] == math.inf
    assert model.fidelity.finite_differences[PARTS] is None
    assert model.fidelity.largest < 1e-5
    assert model.fidelity.words().endswith("run whole.")


def test_the_lens_after_the_last_block_is_the_prediction(tmp_path: Path) -> None:
    """OPT with projections and a norm in front of them, which TransformerLens leaves out of its map."""
    view = opened(variant("opt", word_embed_proj_dim=8), tmp_path).view()
    reading = read_prompt(view, "w3 w1 w4")
    with torch.no_grad():
        expected = view.logits(torch.tensor([list(reading.ids)]))[0, -1].log_softmax(dim=-1)
    torch.testing.assert_close(reading.lens[-1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_what_was_found_is_on_the_model(folder: Path, dtype: str) -> None:
    found = load(str(folder), dtype=dtype, device="cpu").fidelity
    assert found.dtype == dtype
    assert found.tolerance == {"float32": 1e-4, "float64": 1e-4, "float16": 5e-2, "bfloat16": 0.4}[dtype]
    assert set(found.differences) == {ALONE, BATCH, PARTS}
    assert found.largest <= found.tolerance / 4
    assert found.prefixes
    assert (found.layers, found.n_layers, found.longest) == (2, 2, 9)


def test_a_folded_model_is_compared_with_the_unfolded_one(folder: Path) -> None:
    found = load(str(folder), basis="folded", dtype="float32", device="cpu").fidelity
    assert 0 < found.largest < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_some_of_the_blocks_can_run_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a model that is too large to run whole: the first, middle and last of six blocks, and windows."""
    monkeypatch.setattr(fidelity, "WHOLE", 0)
    model = load(str(deeper(name, 6).save(tmp_path)), dtype="float32", device="cpu")
    mixed = {"gpt-neo": 5, "gemma2": 5, "gemma3": 5, "qwen2": 4}  # the first and last of each type of layer, too
    assert (model.fidelity.layers, model.fidelity.prefixes) == (mixed.get(name, 3), True)
    assert 0 < model.fidelity.largest < 1e-5 or name in ("gemma2",)
    assert check_whole(model).layers == 6


def deeper(name: str, layers: int) -> Family:
    """A family with more layers, whose types go on as they began."""
    options = FAMILIES[name].options
    (count,) = {"num_hidden_layers", "n_layer", "num_layers"} & options.keys()
    more = {
        "attention_types": [[["global", "local"], layers // 2]],
        "layer_types": ["sliding_attention", "full_attention"] * (layers // 2),
    }
    return variant(name, **{count: layers}, **{key: value for key, value in more.items() if key in options})


def test_large_models_run_the_ends_and_the_middle_of_every_type_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [torch.nn.Linear(2, 2) for _ in range(12)]
    config = hf.Gemma3TextConfig(num_hidden_layers=12)
    assert fidelity._representatives(config, blocks) == tuple(range(12))
    monkeypatch.setattr(fidelity, "WHOLE", 10)
    assert fidelity._representatives(config, blocks) == (0, 5, 6, 10, 11)
    assert fidelity._representatives(hf.LlamaConfig(), blocks) == (0, 6, 11)


def test_the_view_that_was_looked_at_is_the_first_to_be_had(folder: Path) -> None:
    model = load(str(folder), dtype="float32", device="cpu")
    other = dataclasses.replace(model, tokenizer=tiny.tokenizer())
    view = other.view()
    assert view.model is other
    views = [model.view() for _ in range(3)]
    assert all(view.model is model for view in views)
    assert len({id(view) for view in views}) == 3
    assert not any(view.bridge.unembed._forward_pre_hooks for view in views)


def scaled(view: View) -> None:
    module = view.bridge.blocks[1].attn
    module.register_forward_hook(lambda _, args, answer: (answer[0] * 1.01, *answer[1:]))


def peeking(view: View) -> None:
    """Rows that see their neighbours."""

    def add(module: Any, args: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        answer = answer.clone()
        answer[..., 0] += 0.01 * (len(answer) - 1)
        return answer

    view.bridge.original_model.get_input_embeddings().register_forward_hook(add)


def rotten(view: View) -> None:
    view.bridge.unembed.register_forward_hook(lambda _, args, answer: answer * math.nan)


def broken(view: View) -> None:
    def fail(module: Any, args: Any) -> None:
        raise RuntimeError("shapes do not fit")

    view.bridge.blocks[0].register_forward_pre_hook(fail)


@pytest.mark.parametrize(
    ("mutate", "said"),
    [
        (scaled, "a prompt alone, log-probabilities differ .* by [0-9.e-]+ nats"),
        (peeking, "prompts of several lengths in one batch, log-probabilities differ"),
        (rotten, "by inf nats"),
        (broken, r"fails on a prompt alone .*shapes do not fit"),
    ],
)
def test_mutants_are_refused(mutate: Callable[[View], None], said: str, model: Model, folder: Path) -> None:
    expected = reference("tiny", AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), model.tokenizer)
    view = View(model, copy_bridge(model.bridge))
    compare(view, expected)
    mutate(view)
    with pytest.raises(ModelError, match=said):
        compare(view, expected)


def test_a_bridge_that_scales_attention_wrongly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    softmax = AttentionBridge._softmax_dropout_pattern
    monkeypatch.setattr(
        AttentionBridge, "_softmax_dropout_pattern", lambda self, scores, **given: softmax(self, scores * 1.02, **given)
    )
    with pytest.raises(ModelError, match="GPT2LMHeadModel with a configuration that the hooks get wrong"):
        load(str(tiny.save("gpt2", tmp_path)), dtype="float32", device="cpu")


def test_a_cache_that_forgets_makes_prompts_run_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "expanded", lambda cache, rows: type(cache)())
    found = load(str(folder), dtype="float32", device="cpu").fidelity
    assert not found.prefixes
    assert found.differences[PARTS] > found.tolerance


def test_weights_whose_logits_overflow_are_refused(tmp_path: Path) -> None:
    model = FAMILIES["llama"].build()
    with torch.no_grad():
        model.model.norm.weight.mul_(1e38)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not finite"):
        load(str(tmp_path), dtype="float32", device="cpu")


def test_a_plain_model_that_cannot_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FAMILIES["llama"].save(tmp_path)
    monkeypatch.setattr(hf.LlamaModel, "forward", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ModelError, match="cannot be run by plain transformers"):
        load(str(folder), dtype="float32", device="cpu")


def test_reading_a_beginning_asks_for_no_logits(view: View) -> None:
    rows: list[int] = []
    handle = view.bridge.unembed.register_forward_hook(lambda _, args, answer: rows.append(answer.shape[1]))
    with torch.no_grad():
        cache = caches.read_prefix(view, torch.arange(2, 8)[None])
    handle.remove()
    assert rows == [0]
    assert cache.get_seq_length() == 6
