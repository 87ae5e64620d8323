"""The folded basis: the same outputs from other matrices, which are numpy's and TransformerLens's own foldings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from explorer.core.errors import MaskError, ModelError, SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask, identity
from explorer.masks.mask import Mask, Removed
from explorer.models import Model, load
from explorer.models import matrices as registry
from explorer.models.norms import READERS, WRITERS, norms
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import decompose
from tests.families import FAMILIES, HIDDEN, LAYERS

TOKENS = torch.tensor([[0, 5, 9, 3, 7, 2, 11], [0, 4, 4, 12, 19, 6, 1]])
UNFOLDABLE = {
    "olmo2": "Olmo2ForCausalLM whose layer norms cannot be folded .none stands before its matrices",
    "opt-post-norm": "OPTForCausalLM whose layer norms cannot be folded .they are part of the residual stream",
}
FOLDABLE = [name for name in FAMILIES if name not in UNFOLDABLE]
CENTRING = np.eye(HIDDEN) - 1 / HIDDEN


@pytest.fixture(scope="module", params=FOLDABLE)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model, Model]:
    """Folder, raw model and folded model in float64."""
    path = FAMILIES[request.param].save(tmp_path_factory.mktemp(request.param))
    return path, load(str(path), dtype="float64"), load(str(path), dtype="float64", basis="folded")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.view().logits(TOKENS) if isinstance(model, Model) else model(TOKENS).logits
    return found


@pytest.mark.slow
def test_outputs_stay_and_matrices_change(family: tuple[Path, Model, Model]) -> None:
    _, raw, folded = family
    # Norms of some families compute in float32 whatever the weights' type.
    torch.testing.assert_close(logits(folded), logits(raw), rtol=0, atol=5e-6)
    assert (raw.basis, folded.basis) == ("raw", "folded")
    assert raw.digest != folded.digest == folded.current_digest()
    view, other = folded.view(), raw.view()
    for key in registry.matrices(view, readers_of(view)):
        assert not torch.allclose(registry.read(view, key), registry.read(other, key), atol=1e-3)


def readers_of(view: Any) -> list[Kind]:
    return [kind for kind in registry.kinds(view) if kind in READERS]


@pytest.mark.slow
def test_singular_values_are_those_of_the_scaled_matrices(family: tuple[Path, Model, Model]) -> None:
    """diag(g) W by numpy, centred where the norm centres; read from the checkpoint's own norms."""
    path, raw, folded = family
    weights = {name: tensor.double().numpy() for name, tensor in load_file(path / "model.safetensors").items()}
    placed = norms(raw.architecture, AutoConfig.from_pretrained(path))
    view, other = folded.view(), raw.view()
    for key in registry.matrices(view):
        W = registry.read(other, key).numpy()
        if key.kind in READERS:
            (name,) = (n for n in weights if f".{key.layer}.{placed.before(key.kind)}.weight" in n)
            W = (placed.offset + weights[name])[:, None] * W
        if placed.centred:
            W = W @ CENTRING if key.kind in WRITERS else CENTRING @ W
        found = decompose(registry.read(view, key)).s.numpy()
        np.testing.assert_allclose(found, np.linalg.svd(W, compute_uv=False), atol=1e-6, rtol=1e-6)


def test_norms_in_front_of_matrices_have_nothing_left_to_scale(family: tuple[Path, Model, Model]) -> None:
    """What the matrices read has unit scale, and mean zero where the norm centres."""
    _, _, folded = family
    view, read = folded.view(), {}
    placed = norms(folded.architecture, view.bridge.original_model.config)

    def keep(x: torch.Tensor, hook: Any) -> None:
        read[hook.name] = x

    keys = [MatrixKey(layer, kind) for layer in range(LAYERS) for kind in readers_of(view)]
    with view.bridge.hooks(fwd_hooks=[(registry.input_hook(key), keep) for key in keys]):
        logits_of = view.logits(TOKENS)
    assert torch.isfinite(logits_of).all()
    for x in read.values():
        size = x.square().mean(dim=-1)
        torch.testing.assert_close(size, torch.ones_like(size), rtol=0, atol=0.02)
        if placed.centred:
            torch.testing.assert_close(x.mean(dim=-1), torch.zeros_like(size), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", UNFOLDABLE)
def test_families_without_foldable_norms_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = FAMILIES[name].save(tmp_path)
    assert load(str(path)).basis == "raw"
    with pytest.raises(ModelError, match=UNFOLDABLE[name]):
        load(str(path), basis="folded")


def test_bloom_whose_residual_stream_is_normed_is_refused() -> None:
    config = AutoConfig.for_model("bloom", apply_residual_connection_post_layernorm=True)
    assert norms("BloomForCausalLM", config).post


def test_an_unknown_basis_is_a_sentence(folder: Path) -> None:
    with pytest.raises(SettingsError, match="basis 'fold' is not known: choose one of raw, folded"):
        load(str(folder), basis="fold")


def test_gpt2_is_folded_as_transformer_lens_folds_it(tmp_path: Path) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    path = FAMILIES["gpt2"].save(tmp_path)
    view = load(str(path), dtype="float64", basis="folded").view()
    plain: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    reference = TransformerBridge.boot_transformers(str(path), hf_model=plain, tokenizer=view.model.tokenizer)
    reference.enable_compatibility_mode(disable_warnings=True, fold_value_biases=False)
    for layer in range(LAYERS):
        attention, mlp = reference.blocks[layer].attn, reference.blocks[layer].mlp
        for kind, expected in zip("QKVO", (attention.W_Q, attention.W_K, attention.W_V, attention.W_O), strict=True):
            for head in range(expected.shape[0]):
                W = registry.read(view, MatrixKey(layer, Kind(kind), head))
                torch.testing.assert_close(W, expected[head].double(), rtol=0, atol=1e-6)
        for kind, W in ((Kind.IN, mlp.W_in), (Kind.OUT, mlp.W_out)):
            found = registry.read(view, MatrixKey(layer, kind))
            torch.testing.assert_close(found, W.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "neox", "bloom", "phi3"])
def test_the_folded_weights_run_in_plain_transformers(name: str, tmp_path: Path) -> None:
    path = FAMILIES[name].save(tmp_path)
    plain: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    before = logits(plain)
    weights = registry.hf_weights(load(str(path), dtype="float64", basis="folded").view())
    plain.load_state_dict(weights)
    torch.testing.assert_close(logits(plain), before, rtol=0, atol=5e-6)


def test_a_mask_stays_in_its_basis(folder: Path, svds: SvdCache) -> None:
    raw, folded = load(str(folder)), load(str(folder), basis="folded")
    key = MatrixKey(0, Kind.K, 1)
    view = folded.view()
    sigma = float(svds.get(view, key).s[0])
    value = Removed(matrix=str(key), index=0, sigma=sigma)
    mask = empty_mask(folded, "zero").with_removed([value])
    assert apply(view, mask, svds).removed == 1
    for mine, model in ((mask, raw), (empty_mask(raw), folded)):
        with pytest.raises(MaskError, match="their singular values differ; load the model in the mask's basis"):
            apply(model.view(), mine, svds)
    relabelled = Mask(model=identity(raw), mode="zero", removed=(value,))
    with pytest.raises(MaskError, match="it was made from other weights"):
        apply(raw.view(), relabelled, svds)
