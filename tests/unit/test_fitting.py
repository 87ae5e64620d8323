"""One mask means the same edit in every type: that of the weights as they are stored, rounded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from explorer.core.errors import MaskError, ModelError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, check_mask, empty_mask, identity
from explorer.masks.fitting import fitted, fitting_type
from explorer.masks.mask import Mask, Removed, load_mask
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, parts_of, read, read_base, read_bias
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import decompose
from tests import families, tiny

TYPES = ("float32", "bfloat16", "float16", "float64")
HALVES = ("bfloat16", "float16")
FLIPS = MatrixKey(0, Kind.OUT)


@pytest.fixture(scope="module")
def flipping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with a matrix whose singular vectors have two entries of nearly one size, of opposite signs."""
    folder = tiny.save("gpt2", tmp_path_factory.mktemp("flipping"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("h.0.mlp.c_proj.weight"))  # [d_in, d_out]
    d_in, d_out = weights[name].shape
    torch.manual_seed(5)
    u = torch.linalg.qr(torch.randn(d_in, d_out, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(d_out, d_out, dtype=torch.float64)).Q
    first = torch.full((d_in,), 0.05, dtype=torch.float64)
    first[0], first[1] = 0.60001, -0.6
    u[:, 0] = first / first.norm()
    u = torch.linalg.qr(u).Q
    u[:, 0] *= torch.sign(u[0, 0])
    s = torch.linspace(3.0, 0.3, d_out, dtype=torch.float64)
    weights[name] = ((u * s) @ v.T).float().contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def stored(folder: Path, layer: int = 0) -> tuple[Tensor, Tensor]:
    weights = load_file(folder / "model.safetensors")
    site = f"transformer.h.{layer}.mlp.c_proj."
    return weights[f"{site}weight"], weights[f"{site}bias"]


def one_value(view: View, svds: SvdCache, key: MatrixKey, index: int, c: float, dtype: str | None = None) -> Mask:
    sigma = float(svds.get(view, key, dtype).s[index])
    return empty_mask(view.model).with_removed([Removed(matrix=str(key), index=index, sigma=sigma, c=c)])


@pytest.mark.parametrize("dtype", TYPES)
def test_a_mask_of_float32_is_the_same_edit_rounded_once(flipping: Path, dtype: str) -> None:
    """Against LAPACK's decomposition of the stored tensor; u_0's sign turns round when the weights are rounded."""
    W, b = stored(flipping)
    u, s, vh = torch.linalg.svd(W.double(), full_matrices=False)
    sign = torch.sign(u[u[:, 0].abs().argmax(), 0])
    c = 0.75
    part, frozen = s[0] * torch.outer(u[:, 0], vh[0]), s[0] * c * sign * vh[0]
    view, svds = load(str(flipping), dtype=dtype).view(), SvdCache(None)
    of32 = load(str(flipping), dtype="float32")
    mask = one_value(of32.view(), svds, FLIPS, 0, c)
    apply(view, mask, svds)
    bias = read_bias(view, FLIPS)
    assert bias is not None
    eps = torch.finfo(getattr(torch, dtype)).eps
    for found, wanted in ((read(view, FLIPS), W.double() - part), (bias, b.double() + frozen)):
        torch.testing.assert_close(found.double(), wanted, rtol=eps, atol=2e-6)


def test_rounded_weights_would_have_turned_the_sign(flipping: Path) -> None:
    W, _ = stored(flipping)
    cosines = [float(decompose(W).u[:, 0] @ decompose(W.to(getattr(torch, dtype))).u[:, 0]) for dtype in HALVES]
    assert max(cosines) < -0.9


@pytest.mark.parametrize("basis", ["raw", "folded"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "phi3", "gemma2", "falcon-grouped"])
def test_decompositions_are_those_of_the_stored_weights_in_every_type(
    family: str, dtype: str, basis: str, tmp_path: Path
) -> None:
    name = next(one for one in sorted(families.FAMILIES) if one.startswith(family))
    folder = families.FAMILIES[name].save(tmp_path)
    short, long = (load(str(folder), dtype=one, basis=basis).view() for one in (dtype, "float32"))
    for per_head in (True, False):
        keys = matrices(short, per_head=per_head)
        found, wanted = SvdCache(None).get_many(short, keys), SvdCache(None).get_many(long, keys)
        for key in keys:
            for part in ("u", "s", "vh"):
                assert torch.equal(getattr(found[key], part), getattr(wanted[key], part)), (key, part)


def test_a_checkpoint_in_a_half_type_is_read_from_memory(flipping: Path, tmp_path: Path) -> None:
    short = load(str(flipping), dtype="bfloat16")
    assert not short.holds("float32")
    weights = {name: one.bfloat16() for name, one in load_file(flipping / "model.safetensors").items()}
    folder = tiny.save("gpt2", tmp_path)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for dtype in ("bfloat16", "float32", "float64"):
        assert load(str(folder), dtype=dtype).holds("float32"), dtype
    assert not load(str(folder), dtype="float16").holds("float32")


def of_before(model: Model, c: float = 0.75) -> Mask:
    """A mask as it was made when matrices were decomposed as they were loaded."""
    svd = decompose(read_base(model.view(), FLIPS))
    removed = [Removed(matrix=str(FLIPS), index=i, sigma=float(svd.s[i]), c=c) for i in (0, 3)]
    return Mask(model=identity(model), removed=tuple(removed))


def then(view: View, mask: Mask) -> tuple[Tensor, Tensor]:
    """Weight and bias as they were computed then: of the weights in memory alone."""
    W = read_base(view, FLIPS).detach().float().clone()
    svd, indices = decompose(read_base(view, FLIPS)), [one.index for one in mask.removed]
    W -= svd.part(indices)
    weights = svd.s[indices] * torch.tensor([one.c for one in mask.removed], dtype=torch.float64)
    bias = view.model.bridge.blocks[0].mlp.get_submodule("out").original_component.bias
    assert isinstance(view.model.bridge.blocks[0].mlp.get_submodule("out").original_component, Conv1D)
    return W.to(view.bridge.original_model.dtype), (bias.detach().float() + weights.float() @ svd.vh[indices]).to(bias)


@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_a_mask_of_before_opens_as_then_in_its_type_bit_for_bit(flipping: Path, tmp_path: Path, dtype: str) -> None:
    model = load(str(flipping), dtype=dtype)
    view, svds = model.view(), SvdCache(None)
    of_before(model).save(tmp_path / "m.json")
    mask = load_mask(tmp_path / "m.json")
    apply(view, mask, svds)
    bias = read_bias(view, FLIPS)
    assert bias is not None
    W, b = then(view, mask)
    assert torch.equal(read(view, FLIPS), W)
    assert torch.equal(bias, b)
    assert fitting_type(view, FLIPS, mask.removed, svds=svds) == dtype


def test_a_mask_of_before_is_of_its_own_vectors_in_another_type_too(flipping: Path) -> None:
    svds, short, long = SvdCache(None), load(str(flipping), dtype="bfloat16"), load(str(flipping), dtype="float32")
    mask, view = of_before(short), long.view()
    apply(view, mask, svds)
    svd = decompose(read_base(short.view(), FLIPS))
    W, b = stored(flipping)
    torch.testing.assert_close(read(view, FLIPS), W - svd.part([0, 3]), rtol=0, atol=1e-6)
    bias = read_bias(view, FLIPS)
    assert bias is not None
    frozen = 0.75 * (svd.s[[0, 3]].float() @ svd.vh[[0, 3]])
    torch.testing.assert_close(bias, b + frozen, rtol=0, atol=1e-6)
    held = fitted(view, mask, svds)
    assert torch.equal(held.get(view, FLIPS).u, svd.u)
    assert fitted(view, one_value(view, svds, FLIPS, 0, 0.75), svds) is svds
    assert torch.equal(held.get(view, MatrixKey(1, Kind.OUT)).u, svds.get(view, MatrixKey(1, Kind.OUT)).u)


def test_values_of_two_decompositions_of_one_matrix_are_refused(flipping: Path) -> None:
    model, svds = load(str(flipping), dtype="bfloat16"), SvdCache(None)
    view = model.view()
    mixed = of_before(model).with_removed(one_value(view, svds, FLIPS, 1, 0.5).removed)
    for use in (apply, check_mask):
        with pytest.raises(MaskError, match="of two kinds"):
            use(view, mixed, svds)
    assert view.applied == {}


def test_a_sigma_that_no_type_gives_is_refused(flipping: Path) -> None:
    svds = SvdCache(None)
    for dtype in ("float32", "bfloat16"):
        view = load(str(flipping), dtype=dtype).view()
        mask = one_value(view, svds, FLIPS, 0, 0.75)
        off = [one.model_copy(update={"sigma": one.sigma * 1.001}) for one in mask.removed]
        with pytest.raises(MaskError, match="other weights"):
            apply(view, mask.with_removed(off), svds)


def test_only_the_removed_heads_are_computed_from_the_stored_weights(tmp_path: Path) -> None:
    folder = tiny.save("llama", tmp_path)
    view, svds = load(str(folder), dtype="bfloat16", basis="folded").view(), SvdCache(None)
    for key in (MatrixKey(1, Kind.Q, 2), MatrixKey(0, Kind.O, 1), MatrixKey(1, Kind.IN)):
        before = read_base(view, key.stacked)
        apply(view, one_value(view, svds, key, 0, 0.01), svds)
        changed, where = read(view, key.stacked) != before, torch.zeros(before.shape, dtype=torch.bool)
        where[parts_of(view, key)] = True
        assert bool(changed[where].any())
        assert not bool(changed[~where].any())


def test_files_that_have_changed_since_the_model_was_loaded_are_noticed(tmp_path: Path) -> None:
    folder = tiny.save("gpt2", tmp_path)
    view = load(str(folder), dtype="bfloat16").view()
    weights = {name: one * 1.1 for name, one in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="have changed since it was loaded"):
        SvdCache(None).get(view, FLIPS)
