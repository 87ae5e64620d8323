"""Read-outs against plain transformers: embeddings through the layer's norm, the unembedding behind the final one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.core.errors import MatrixError
from explorer.core.keys import AnyKey, Circuit, CircuitKey, Kind, MatrixKey
from explorer.measure.readout import Readout, readouts, sides
from explorer.models import Model, load
from explorer.models import matrices as registry
from explorer.spectra.circuits import circuits, decompose_circuit
from explorer.spectra.svd import decompose
from tests import tiny
from tests.families import FAMILIES

# The norm in front of layer 1's attention and MLP, the one behind O and OUT, and the final one, written out by hand.
PLACES: dict[str, tuple[str | None, str | None, str | None, str | None, str | None]] = {
    "gpt2": ("transformer.h.1.ln_1", "transformer.h.1.ln_2", None, None, "transformer.ln_f"),
    "gpt-j": ("transformer.h.1.ln_1", "transformer.h.1.ln_1", None, None, "transformer.ln_f"),
    "neox": (
        "gpt_neox.layers.1.input_layernorm",
        "gpt_neox.layers.1.post_attention_layernorm",
        None,
        None,
        "gpt_neox.final_layer_norm",
    ),
    "llama": ("model.layers.1.input_layernorm", "model.layers.1.post_attention_layernorm", None, None, "model.norm"),
    "gemma2": (
        "model.layers.1.input_layernorm",
        "model.layers.1.pre_feedforward_layernorm",
        "model.layers.1.post_attention_layernorm",
        "model.layers.1.post_feedforward_layernorm",
        "model.norm",
    ),
    "olmo2": (
        None,
        None,
        "model.layers.1.post_attention_layernorm",
        "model.layers.1.post_feedforward_layernorm",
        "model.norm",
    ),
    "bloom": (
        "transformer.h.1.input_layernorm",
        "transformer.h.1.post_attention_layernorm",
        None,
        None,
        "transformer.ln_f",
    ),
    "falcon-grouped": ("transformer.h.1.ln_attn", "transformer.h.1.ln_mlp", None, None, "transformer.ln_f"),
    "opt-post-norm": (None, None, None, None, None),
}


@pytest.fixture(scope="module", params=PLACES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Model, Any]:
    path = FAMILIES[request.param].save(tmp_path_factory.mktemp(request.param))
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    return request.param, load(str(path), dtype="float64"), plain


def normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    """LayerNorm or RMSNorm by formula, in float64, without the norm's shift where `x` is a direction."""
    if norm is None:
        return x
    scale = norm.weight.detach() + (1 if "Gemma" in type(norm).__name__ else 0)
    if isinstance(norm, nn.LayerNorm):
        return scale * (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
    return scale * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def expected(name: str, plain: Any, kind: Kind, vector: Tensor) -> Tensor:
    """Value per token; of readings only differences between tokens count, so shifts are left out."""
    attention, mlp, behind_o, behind_out, final = (
        None if place is None else plain.get_submodule(place) for place in PLACES[name]
    )
    embedding = plain.get_input_embeddings().weight.detach()
    if name == "gemma2":
        embedding = embedding * 4.0  # sqrt(16)
    if name == "bloom":
        embedding = plain.transformer.word_embeddings_layernorm(embedding).detach()
    if name == "opt-post-norm" and kind not in (Kind.O, Kind.OUT):
        embedding = plain.model.decoder.project_in(embedding).detach()
    if kind in (Kind.Q, Kind.K, Kind.V, Kind.IN, Kind.GATE):
        return normed(attention if kind in (Kind.Q, Kind.K, Kind.V) else mlp, embedding) @ vector
    x = normed(final, normed(behind_o if kind is Kind.O else behind_out, vector))
    if name == "opt-post-norm":
        x = plain.model.decoder.project_out(x).detach()
    return plain.get_output_embeddings().weight.detach() @ x


def check(found: Readout, values: Tensor) -> None:
    order = np.argsort(-values.numpy(), kind="stable")
    assert [one.id for one in found.plus] == order[:5].tolist()
    assert [one.id for one in found.minus] == order[::-1][:5].tolist()
    for one in (*found.plus, *found.minus):
        assert one.text == tiny.WORDS[one.id]
    # The values themselves, up to the shift that the norm adds to all readings alike.
    told = np.array([one.value for one in (*found.plus, *found.minus)])
    real = values.numpy()[[one.id for one in (*found.plus, *found.minus)]]
    np.testing.assert_allclose(told - told[0], real - real[0], atol=2e-4)
    if found.side == "writes":
        np.testing.assert_allclose(told, real, atol=2e-4)


@pytest.mark.slow
def test_matrices_read_and_write_the_tokens_of_plain_transformers(loaded: tuple[str, Model, Any]) -> None:
    name, model, plain = loaded
    view = model.view()
    for kind in registry.kinds(view):
        key = MatrixKey(1, kind)
        found = decompose(registry.read(view, key))
        told = readouts(view, key, found, [0, 3], k=5)
        assert [(one.index, one.kind) for one in told] == [(0, kind), (3, kind)]
        for one in told:
            vector = found.vh[one.index] if kind in (Kind.O, Kind.OUT) else found.u[:, one.index]
            assert (one.vector, one.side) == (("v", "writes") if kind in (Kind.O, Kind.OUT) else ("u", "reads"))
            check(one, expected(name, plain, kind, vector))


def test_circuits_have_two_ends(loaded: tuple[str, Model, Any]) -> None:
    name, model, plain = loaded
    view = model.view()
    for key in [one for one in circuits(view) if one.layer == 1 and one.head == 2]:
        found = decompose_circuit(view, key)
        first, second = readouts(view, key, found, [1], k=5)
        assert (first.vector, first.kind, second.vector, second.kind) == ("u", *_ends(key, 0), "v", *_ends(key, 1))
        assert second.side == ("reads" if key.circuit is Circuit.QK else "writes")
        check(first, expected(name, plain, first.kind, found.u[:, 1]))
        check(second, expected(name, plain, second.kind, found.vh[1]))


def _ends(key: CircuitKey, position: int) -> tuple[Kind]:
    return (key.circuit.kinds[position],)


@pytest.mark.parametrize(
    ("key", "expected_sides"),
    [
        (MatrixKey(0, Kind.K, 1), (("u", Kind.K),)),
        (MatrixKey(0, Kind.O), (("v", Kind.O),)),
        (CircuitKey(0, Circuit.OV, 0), (("u", Kind.V), ("v", Kind.O))),
    ],
)
def test_sides(key: AnyKey, expected_sides: object) -> None:
    assert sides(key) == expected_sides


@pytest.mark.parametrize("name", ["llama", "bloom", "opt-post-norm"])  # embeddings as they are, normed, projected
def test_a_long_vocabulary_is_read_in_pieces(name: str, tmp_path: Path) -> None:
    long = dataclasses.replace(FAMILIES[name], options={**FAMILIES[name].options, "vocab_size": LONG})
    plain = long.build().eval().double()
    plain.save_pretrained(tmp_path)
    long_tokenizer().save_pretrained(tmp_path)
    view, key = load(str(tmp_path), dtype="float64").view(), MatrixKey(1, Kind.IN)
    rows: list[int] = []
    embedding = view.bridge.original_model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _, args, __: rows.append(args[0].numel()))
    found = decompose(registry.read(view, key))
    (told,) = readouts(view, key, found, [0], k=LONG)
    hook.remove()
    assert sum(rows) == LONG
    assert max(rows) < LONG, "embeddings are not copied whole"
    by_id = sorted(told.plus, key=lambda one: one.id)
    values = np.array([one.value for one in by_id])
    real = expected(name, plain, Kind.IN, found.u[:, 0]).detach().numpy()
    np.testing.assert_allclose(values - values[0], real - real[0], atol=2e-4)
    assert [one.value for one in told.plus] == sorted(values, reverse=True)
    assert [one.value for one in told.minus] == sorted(values)
    assert sorted(told.minus, key=lambda one: one.id) == by_id


LONG = 9_000


def long_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny tokenizer with as many words as a real one."""
    words = {**tiny.IDS, **{f"v{place}": place for place in range(len(tiny.IDS), LONG)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<bos>", unk_token="<unk>", model_max_length=16)


def test_indices_and_counts_beyond_what_there_is(folder: Path) -> None:
    view, key = load(str(folder)).view(), MatrixKey(0, Kind.K, 0)
    found = decompose(registry.read(view, key))
    with pytest.raises(MatrixError, match=f"has singular values 0 to {found.rank - 1}, not {found.rank}"):
        readouts(view, key, found, [found.rank])
    (one,) = readouts(view, key, found, [0], k=1000)
    assert len(one.plus) == len(tiny.WORDS)
    assert readouts(view, key, found, []) == []
