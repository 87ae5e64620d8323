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
from explorer.masks.frozen import longest_embedding
from explorer.masks.mask import Derived, Mask, Provenance, Removed
from explorer.masks.sets import vote
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


RELEASED = (
    {"provenance": Provenance(scorer="as-released")},
    {"metrics": {"frozen_means": "summed over the token positions of the last mini-batch"}},
    {"provenance": Provenance(scorer="as-released", derived=Derived(how="union", masks=("a", "b")))},
)
COMBINED = [
    {"provenance": Provenance(derived=Derived(how=how, masks=("a", "b")))}
    for how in ("union", "intersection", "vote 2", "transfer", "x")
]


@pytest.mark.parametrize("changes", RELEASED)
def test_the_released_codes_means_are_within_the_longest_stream_times_the_positions(
    arch: str, view: View, plain64: torch.nn.Module, svds: SvdCache, changes: dict[str, object]
) -> None:
    """Sums over all positions of the plain model's streams in front of the norms are taken, nonsense is refused."""
    tokens = torch.randint(0, len(tiny.WORDS), (64, tiny.POSITIONS))
    for key in matrices(view, [kind for kind in READERS if kind in tiny.KINDS[arch]]):
        name = NORMS[arch][0 if key.kind in (Kind.Q, Kind.K, Kind.V) else 1].format(key.layer)
        seen: list[Tensor] = []
        handle = plain64.get_submodule(name).register_forward_pre_hook(lambda m, x, seen=seen: seen.append(x[0]))
        with torch.no_grad():
            plain64(tokens)
        handle.remove()
        largest = float((seen[0].sum(dim=1) @ svds.get(view, key).u[:, 0].double()).abs().max())
        apply(view, masked(view, svds, key, 0, largest, **changes), svds)
        for c in (1e12, -1e30, 1e308):
            with pytest.raises(MaskError, match="at most"):
                apply(view, masked(view, svds, key, 0, c, **changes), svds)
    for key in matrices(view, [Kind.O, Kind.OUT]):
        for c in (1e12, 1e308):
            with pytest.raises(MaskError, match="at most"):
                check_mask(view, masked(view, svds, key, 0, c, **changes), svds)


@pytest.mark.parametrize("changes", COMBINED)
def test_a_combination_of_masks_has_the_bound_of_each(view: View, svds: SvdCache, changes: dict[str, object]) -> None:
    for key in matrices(view, None):
        for c in (1e30, -1e9):
            with pytest.raises(MaskError, match="at most"):
                apply(view, masked(view, svds, key, 0, c, **changes), svds)
    assert view.applied == {}


def test_a_vote_with_a_mask_of_the_released_code_says_so(view: View, svds: SvdCache) -> None:
    key = matrices(view, [Kind.Q])[0]
    plain, released = masked(view, svds, key, 0, 0.01), masked(view, svds, key, 1, 30.0, **RELEASED[0])
    with pytest.raises(MaskError, match="at most"):
        check_mask(view, masked(view, svds, key, 1, 30.0), svds)
    for masks in ((plain, released), (released, plain)):
        both = vote(masks, 1)
        assert both.metrics == {"frozen_means": "as released in 1 of 2 masks"}
        apply(view, both, svds)
        again = both.without([(str(key), 0)])
        assert again.has_released_means
        check_mask(view, again, svds)
    assert vote((plain, plain), 1).metrics == {}


def test_zero_removal_has_no_frozen_means(view: View, svds: SvdCache) -> None:
    apply(view, masked(view, svds, matrices(view, [Kind.Q])[0], 0, 1e308, mode="zero"), svds)


def inputs(view: View) -> dict[MatrixKey, Tensor]:
    """What every stacked matrix of a model reads on random tokens, in float64."""
    length = min(int(view.config.n_ctx), 16)
    tokens = torch.randint(0, len(tiny.WORDS), (16, length))
    seen: dict[MatrixKey, Tensor] = {}
    keys = matrices(view, None, per_head=False)
    hooks = [(input_hook(key), lambda x, hook, key=key: seen.update({key: x.detach()}) or x) for key in keys]
    with view.bridge.hooks(fwd_hooks=hooks):
        view.logits(tokens)
    return {key: x.flatten(0, 1).flatten(1).double() for key, x in seen.items()}


@pytest.mark.parametrize("family", ["olmo2", "opt-post-norm"])
def test_where_no_norm_stands_in_front_the_stream_bounds_what_is_read(family: str, tmp_path: Path) -> None:
    """What inputs give is taken, sums of the streams with the released code's notes too; nonsense is refused."""
    view, svds = load(str(families.FAMILIES[family].save(tmp_path))).view(), SvdCache(None)
    for key, x in inputs(view).items():
        read = (x @ svds.get(view, key).u.double()).abs().max(dim=0).values
        for index in range(len(read)):
            check_mask(view, masked(view, svds, key, index, float(read[index])), svds)
        for c in (1e9, -1e30, 1e308):
            with pytest.raises(MaskError, match="at most"):
                check_mask(view, masked(view, svds, key, 0, c), svds)


def test_the_longest_embedding_is_that_of_every_token_at_every_position(
    arch: str, view: View, plain64: torch.nn.Module
) -> None:
    table = plain64.get_input_embeddings().weight.detach()  # type: ignore[operator]
    longest = table.norm(dim=1).max()
    if arch == "gpt2":
        places = plain64.get_submodule("transformer.wpe").weight.detach()
        longest = (table[:, None] + places).norm(dim=-1).max()
    assert float(longest) <= longest_embedding(view) * (1 + 1e-6)
    if arch == "llama":
        assert longest_embedding(view) == pytest.approx(float(longest), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(families.FAMILIES))
def test_inputs_of_every_family_are_within_their_bounds(family: str, tmp_path: Path) -> None:
    view, svds = load(str(families.FAMILIES[family].save(tmp_path))).view(), SvdCache(None)
    for key, x in inputs(view).items():
        read = (x @ svds.get(view, key).u.double()).abs().max(dim=0).values
        for index in range(len(read)):
            check_mask(view, masked(view, svds, key, index, float(read[index])), svds)
        with pytest.raises(MaskError, match="at most"):
            check_mask(view, masked(view, svds, key, 0, 1e30), svds)
