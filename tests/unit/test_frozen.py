"""A frozen mean that no input of the model can give is refused; what inputs give, the most extreme too, is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from explorer.core.errors import MaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, check_mask, empty_mask
from explorer.masks.mask import Derived, Mask, Provenance, Removed
from explorer.models import View, load
from explorer.models.matrices import input_hook, matrices, parts_of
from explorer.models.norms import READERS
from explorer.spectra.cache import SvdCache
from tests import families, tiny

NORMS = {  # of the plain Hugging Face models, in front of attention and of the MLP
    "gpt2": ("transformer.h.{}.ln_1", "transformer.h.{}.ln_2"),
    "llama": ("model.layers.{}.input_layernorm", "model.layers.{}.post_attention_layernorm"),
}


def masked(view: View, svds: SvdCache, key: MatrixKey, index: int, c: float, **changes: object) -> Mask:
    sigma = float(svds.get(view, key).s[index])
    mask = empty_mask(view.model).with_removed([Removed(matrix=str(key), index=index, sigma=sigma, c=c)])
    return mask.model_copy(update=changes)


def extreme(arch: str, plain64: torch.nn.Module, key: MatrixKey, u: Tensor) -> tuple[float, float]:
    """The largest |x . u| that a stream reaches (found by looking along the scaled direction), and what bounds it."""
    names = NORMS[arch]
    name = names[0] if key.kind in (Kind.Q, Kind.K, Kind.V) else names[1]
    norm = plain64.get_submodule(name.format(key.layer))
    gain = dict(norm.named_parameters())["weight"].detach().double()
    bias = dict(norm.named_parameters()).get("bias", torch.zeros(len(gain))).detach().double()
    direction = gain * u.double()
    streams = torch.stack([1e4 * direction, -1e4 * direction, *(1e4 * torch.randn(64, len(gain)).double())])
    with torch.no_grad():
        reached = (norm(streams[None])[0] @ u.double()).abs().max()
    return float(reached), math.sqrt(len(gain)) * float(direction.norm()) + abs(float(bias @ u.double()))


def test_what_a_norm_lets_through_is_the_bound(arch: str, view: View, plain64: torch.nn.Module, svds: SvdCache) -> None:
    for key in matrices(view, [kind for kind in READERS if kind in tiny.KINDS[arch]]):
        u = svds.get(view, key).u[:, 1]
        reached, bound = extreme(arch, plain64, key, u)
        assert reached <= bound
        if arch == "llama":
            assert reached == pytest.approx(bound, rel=1e-3), "the bound is as small as it can be"
        for sign in (1, -1):
            check_mask(view, masked(view, svds, key, 1, sign * reached), svds)
            apply(view, masked(view, svds, key, 1, sign * bound), svds)
            with pytest.raises(MaskError, match=rf"value 1 of {key} is .* at most"):
                apply(view, masked(view, svds, key, 1, sign * bound * 1.01), svds)
            with pytest.raises(MaskError, match="at most"):
                check_mask(view, masked(view, svds, key, 1, sign * bound * 1.01), svds)


def test_what_inputs_give_to_o_and_out_is_within_and_nonsense_is_not(view: View, svds: SvdCache) -> None:
    tokens = torch.randint(0, len(tiny.WORDS), (64, tiny.POSITIONS))
    for key in (*matrices(view, [Kind.O]), *matrices(view, [Kind.O], per_head=False), *matrices(view, [Kind.OUT])):
        seen: list[Tensor] = []
        apply(view, empty_mask(view.model), svds)
        with view.bridge.hooks(fwd_hooks=[(input_hook(key), lambda x, hook, seen=seen: seen.append(x) or x)]):
            view.logits(tokens)
        read = seen[0].detach().flatten(0, 1).flatten(1)[:, parts_of(view, key)[0]]
        largest = float((read.double() @ svds.get(view, key).u[:, 0].double()).abs().max())
        check_mask(view, masked(view, svds, key, 0, largest), svds)
        with pytest.raises(MaskError, match="at most"):
            check_mask(view, masked(view, svds, key, 0, 1e6), svds)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_frozen_mean_of_1e308_is_refused_everywhere(folder: Path, dtype: str) -> None:
    view, svds = load(str(folder), dtype=dtype).view(), SvdCache(None)
    for key in matrices(view, None):
        for c in (1e308, -1e308, 1e30):
            with pytest.raises(MaskError, match="at most"):
                apply(view, masked(view, svds, key, 0, c), svds)
            assert view.applied == {}


def test_the_released_codes_means_only_have_to_leave_a_finite_bias(view: View, svds: SvdCache) -> None:
    """They are sums over positions of the stream in front of the norm, which nothing bounds."""
    key = matrices(view, [Kind.Q])[0]
    notes = (
        {"provenance": Provenance(scorer="as-released")},
        {"metrics": {"frozen_means": "averaged"}},
        {"provenance": Provenance(derived=Derived(how="union", masks=("a", "b")))},
    )
    for changes in notes:
        apply(view, masked(view, svds, key, 0, 1e4, **changes), svds)
        with pytest.raises(MaskError, match=r"bias infinite in float32"):
            apply(view, masked(view, svds, key, 0, 1e308, **changes), svds)


def test_zero_removal_has_no_frozen_means(view: View, svds: SvdCache) -> None:
    apply(view, masked(view, svds, matrices(view, [Kind.Q])[0], 0, 1e308, mode="zero"), svds)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(families.FAMILIES))
def test_inputs_of_every_family_are_within_their_bounds(family: str, tmp_path: Path) -> None:
    view, svds = load(str(families.FAMILIES[family].save(tmp_path))).view(), SvdCache(None)
    length = min(int(view.config.n_ctx), 16)
    tokens = torch.randint(0, len(tiny.WORDS), (16, length))
    seen: dict[str, Tensor] = {}
    keys = matrices(view, None, per_head=False)
    hooks = [(input_hook(key), lambda x, hook, name=str(key): seen.update({name: x.detach()}) or x) for key in keys]
    with view.bridge.hooks(fwd_hooks=hooks):
        view.logits(tokens)
    for key in keys:
        u = svds.get(view, key).u.double()
        read = (seen[str(key)].flatten(0, 1).flatten(1).double() @ u).abs().max(dim=0).values
        for index in range(len(read)):
            check_mask(view, masked(view, svds, key, index, float(read[index])), svds)
