"""A head's score and what it moves, as sums over pairs of directions, against what plain transformers computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from explorer.core.errors import MatrixError, SettingsError, TaskError
from explorer.core.keys import MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.head_split import ALIBI, BIAS, CAP, FROZEN, OUTSIDE, Directions, HeadPlace, HeadSplit, head_split
from explorer.masks.mask import Mask, Removed
from explorer.measure.tokens import read_prompt_ids
from explorer.models import Model, View, load
from explorer.spectra.cache import SvdCache
from tests import families, tiny

PROMPT = "w3 w1 w4 w1 w5 w9"
IDS = [0, *(tiny.IDS[word] for word in PROMPT.split())]
EVERY: tuple[Directions, ...] = ("head", "stacked", "product")
QUICK = ("gpt2", "llama", "qwen3", "gemma2", "gemma3")  # what the fast tier sees; all others are in the slow one
Split = Callable[..., HeadSplit]


@contextmanager
def scores_of(plain: Any, ids: list[int]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """What plain transformers' eager attention puts into softmax, and gets, layer by layer: [head, query, key]."""
    before: list[Tensor] = []
    after: list[Tensor] = []
    softmax = torch.nn.functional.softmax

    def recorded(x: Tensor, *args: Any, **options: Any) -> Tensor:
        shares: Tensor = softmax(x, *args, **options)
        before.append(x.detach().reshape(-1, *x.shape[-2:]))
        after.append(shares.detach().reshape(-1, *x.shape[-2:]))
        return shares

    with torch.no_grad(), mock.patch.object(torch.nn.functional, "softmax", recorded):
        plain(torch.tensor([ids]))
    yield before, after


def eager(folder: Path | str) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def splitting(view: View, svds: SvdCache, mask: Mask | None = None) -> Split:
    def split(place: HeadPlace, **options: Any) -> HeadSplit:
        own = empty_mask(view.model) if mask is None else mask
        return head_split(view, own, svds, options.pop("prompt", PROMPT), place=place, **options)

    return split


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in families.FAMILIES]
)
def test_the_terms_add_up_to_plain_transformers_own_score(name: str, tmp_path: Path) -> None:
    families.FAMILIES[name].save(tmp_path)
    view, svds = load(str(tmp_path), dtype="float32", device="cpu").view(), SvdCache(None)
    with scores_of(eager(tmp_path), IDS) as (scores, shares):
        for layer, head, query, key in ((0, 3, 6, 4), (1, 0, 5, 4), (1, 2, 6, 6)):
            for directions in EVERY:
                found = splitting(view, svds)(HeadPlace(layer, head, query, key), directions=directions)
                assert found.score.total == pytest.approx(float(scores[layer][head, query, key]), abs=2e-5)
                assert found.score.own == pytest.approx(float(scores[layer][head, query, key]), abs=2e-5)
                assert found.moved.total == pytest.approx(found.moved.own, abs=1e-5)
                attention = dict(zip(found.visible, found.attention, strict=True))
                assert attention[key] == pytest.approx(float(shares[layer][head, query, key]), abs=1e-5)
    biased = {kind for kind in "QK" if kind in families.FAMILIES[name].biased}
    assert (BIAS in found.score.first.terms, BIAS in found.score.second.terms) == ("Q" in biased, "K" in biased)
    assert [one.name for one in found.score.further] == {"bloom": [ALIBI], "gemma2": [CAP]}.get(name, [])


def written_by_llama(plain: Any, layer: int, head: int, query: int, key: int) -> tuple[Tensor, Tensor]:
    """What one head moves from key to query in a Llama-like model, and what the final norm reads at the query."""
    block, kept = plain.model.layers[layer], {}
    handles = [
        block.self_attn.v_proj.register_forward_hook(lambda module, args, out: kept.update(v=out[0])),
        plain.model.norm.register_forward_pre_hook(lambda module, args: kept.update(final=args[0][0])),
    ]
    with scores_of(plain, IDS) as (_, shares):
        pass
    for one in handles:
        one.remove()
    width, groups = block.self_attn.head_dim, block.self_attn.num_key_value_groups
    shared = head // groups
    value = kept["v"][key, shared * width : (shared + 1) * width]
    own = block.self_attn.o_proj.weight[:, head * width : (head + 1) * width]
    return (shares[layer][head, query, key] * own @ value).detach(), kept["final"][query].detach()


@pytest.mark.parametrize(("name", "offset"), [("llama", 0.0), ("qwen3", 0.0), ("mistral", 0.0), ("gemma", 1.0)])
def test_what_is_moved_is_plain_transformers_own_vector_and_reaches_logits(
    name: str, offset: float, tmp_path: Path
) -> None:
    families.FAMILIES[name].save(tmp_path)
    view, plain, svds = load(str(tmp_path), dtype="float32", device="cpu").view(), eager(tmp_path), SvdCache(None)
    place = HeadPlace(0, 1, 6, 5)
    wrote, final = written_by_llama(plain, 0, 1, 6, 5)
    found = splitting(view, svds)(place)
    assert found.length == pytest.approx(float(wrote.norm()), rel=1e-5)
    assert found.moved.total == pytest.approx(float(wrote.norm()), rel=1e-5), "along itself, its length"
    rms = (final.square().mean() + 1e-6).sqrt()
    logits = plain.lm_head.weight @ (wrote / rms * (plain.model.norm.weight + offset))
    for directions in EVERY:
        found = splitting(view, svds)(place, directions=directions, toward=(7,))
        assert found.moved.total == pytest.approx(float(logits[7]), abs=1e-4)
        found = splitting(view, svds)(place, directions=directions, toward=(7, 9))
        assert found.moved.total == pytest.approx(float(logits[7] - logits[9]), abs=1e-4)
    assert found.toward == "the logit of 'w5' minus that of 'w7'"


def test_gpt2s_layer_norm_is_followed_to_the_logit(tmp_path: Path) -> None:
    families.FAMILIES["gpt2"].save(tmp_path)
    view, plain, kept = load(str(tmp_path), dtype="float32", device="cpu").view(), eager(tmp_path), {}
    block, width = plain.transformer.h[1], 4
    block.attn.c_attn.register_forward_hook(lambda module, args, out: kept.update(v=out[0, :, 2 * families.HIDDEN :]))
    plain.transformer.ln_f.register_forward_pre_hook(lambda module, args: kept.update(final=args[0][0]))
    with scores_of(plain, IDS) as (_, shares):
        pass
    head = slice(2 * width, 3 * width)
    wrote = shares[1][2, 6, 3] * kept["v"][3, head] @ block.attn.c_proj.weight[head]
    final, norm = kept["final"][6], plain.transformer.ln_f
    scaled = norm.weight * (wrote - wrote.mean()) / (final.var(unbiased=False) + norm.eps).sqrt()
    expected = plain.lm_head.weight[5] @ scaled
    found = splitting(view, SvdCache(None))(HeadPlace(1, 2, 6, 3), toward=(5,))
    assert found.moved.total == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["gemma3", "olmo2"])
def test_norms_behind_o_are_followed(name: str, tmp_path: Path) -> None:
    """All keys of all heads of the last layer together, with O's bias absent, are what its norm is given."""
    families.FAMILIES[name].save(tmp_path)
    view, plain, svds, kept = (
        load(str(tmp_path), dtype="float32", device="cpu").view(),
        eager(tmp_path),
        SvdCache(None),
        {},
    )
    last = plain.model.layers[1]
    last.post_attention_layernorm.register_forward_hook(lambda module, args, out: kept.update(normed=out[0, 6]))
    plain.model.norm.register_forward_hook(lambda module, args, out: kept.update(final=args[0][0, 6], out=out[0, 6]))
    with scores_of(plain, IDS) as _:
        pass
    weight = plain.model.norm.weight + (1.0 if name == "gemma3" else 0.0)
    scale = kept["out"] / kept["final"]
    torch.testing.assert_close(scale / weight, (scale / weight).mean().expand_as(scale), rtol=1e-3, atol=1e-4)
    expected = float(plain.lm_head.weight[5] @ (scale * kept["normed"]))
    total = 0.0
    for head in range(families.HEADS):
        found = splitting(view, svds)(HeadPlace(1, head, 6, 6), toward=(5,))
        total += found.moved.own + found.moved.own_elsewhere * (len(found.visible) - 1)
    assert total == pytest.approx(expected, abs=1e-4)


@pytest.fixture
def gpt2(tmp_path: Path) -> tuple[Model, Any]:
    families.FAMILIES["gpt2"].save(tmp_path)
    return load(str(tmp_path), dtype="float32", device="cpu"), eager(tmp_path)


def removing(model: Model, *values: tuple[str, int], c: float = 0.7) -> Mask:
    svds, view, removed = SvdCache(None), model.view(), []
    for matrix, index in values:
        sigma = float(svds.get(view, MatrixKey.parse(matrix)).s[index])
        removed.append(Removed(matrix=matrix, index=index, sigma=sigma, c=c))
    return empty_mask(model, "freeze").with_removed(removed)


def without(plain: Any, columns: slice, index: int, c: float) -> None:
    """Remove a value of GPT-2's first c_attn by numpy, with its frozen mean in its place."""
    module = plain.transformer.h[0].attn.c_attn
    W = module.weight.detach()[:, columns].double().numpy()
    u, s, vh = np.linalg.svd(W, full_matrices=False)
    sign = np.sign(u[np.abs(u[:, index]).argmax(), index])
    with torch.no_grad():
        module.weight[:, columns] -= torch.tensor(s[index] * np.outer(u[:, index], vh[index])).float()
        module.bias[columns] += torch.tensor(c * s[index] * sign * vh[index]).float()


def test_a_mask_leaves_rows_of_zeros_and_the_frozen_means(gpt2: tuple[Model, Any]) -> None:
    model, plain = gpt2
    mask = removing(model, ("L0.Q.H1", 0), ("L0.K.H1", 2))
    without(plain, slice(4, 8), 0, 0.7)
    without(plain, slice(16 + 4, 16 + 8), 2, 0.7)
    with scores_of(plain, IDS) as (scores, _):
        found = splitting(model.view(), SvdCache(None), mask)(HeadPlace(0, 1, 6, 4))
    assert found.score.total == pytest.approx(float(scores[0][1, 6, 4]), abs=2e-5)
    assert found.score.first.terms == ("0", "1", "2", "3", BIAS, FROZEN) == found.score.second.terms
    assert float(found.score.here[0].abs().max()) < 1e-6
    assert float(found.score.here[:, 2].abs().max()) < 1e-6
    assert float(found.score.here[-1].abs().max()) > 1e-3


def test_what_a_mask_of_stacked_values_leaves_out_of_a_heads_directions_is_a_row(gpt2: tuple[Model, Any]) -> None:
    model, plain = gpt2
    mask = removing(model, ("L0.Q", 0), ("L0.V", 1), ("L0.O", 3))
    without(plain, slice(0, 16), 0, 0.7)
    with scores_of(plain, IDS) as (scores, _):
        split = splitting(model.view(), SvdCache(None), mask)
        of_head, of_stack = (split(HeadPlace(0, 1, 6, 4), directions=one) for one in ("head", "stacked"))
    for found in (of_head, of_stack):
        assert found.score.total == pytest.approx(float(scores[0][1, 6, 4]), abs=2e-5)
        assert found.moved.total == pytest.approx(found.moved.own, abs=1e-5)
    assert OUTSIDE in of_head.score.first.terms
    assert OUTSIDE not in of_stack.score.first.terms
    assert float(of_stack.score.here[0].abs().max()) < 1e-6


def test_without_positions_and_norms_the_products_directions_pair_up(gpt2: tuple[Model, Any]) -> None:
    model, _ = gpt2
    view = model.view()
    found = splitting(view, SvdCache(None))(HeadPlace(0, 1, 6, 4), directions="product")
    assert found.score.first.matrix == "L0.QK.H1"
    assert found.moved.second.matrix == "L0.OV.H1"
    inner = found.score.here[:4, :4]
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), rtol=0, atol=1e-9)
    assert float(inner.diagonal().abs().max()) > 1e-3


def test_elsewhere_is_the_mean_of_the_other_keys(tmp_path: Path) -> None:
    families.FAMILIES["gemma2"].save(tmp_path)
    view, svds = load(str(tmp_path), dtype="float32", device="cpu").view(), SvdCache(None)
    split = splitting(view, svds)
    found = split(HeadPlace(1, 2, 5, 3))
    others = [split(HeadPlace(1, 2, 5, key)) for key in found.visible if key != 3]
    assert len(others) == 5
    mean = torch.stack([one.score.here for one in others]).mean(dim=0)
    torch.testing.assert_close(found.score.elsewhere, mean, rtol=0, atol=1e-9)
    assert found.score.own_elsewhere == pytest.approx(np.mean([one.score.own for one in others]))
    assert found.score.further[0].elsewhere == pytest.approx(np.mean([one.score.further[0].here for one in others]))
    first = found.score.pairs(3)
    gaps = [abs(one.here - one.elsewhere) for one in first]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] == pytest.approx(float((found.score.here - found.score.elsewhere).abs().max()))
    alone = split(HeadPlace(1, 2, 0))
    assert alone.visible == (0,)
    assert float(alone.score.elsewhere.abs().max()) == 0 == alone.score.own_elsewhere


def test_the_view_keeps_its_mask_and_the_model_its_weights(tmp_path: Path) -> None:
    families.FAMILIES["gemma2"].save(tmp_path)
    model = load(str(tmp_path), dtype="float32", device="cpu")
    view = model.view()
    before = view.logits(torch.tensor([IDS]))
    splitting(view, SvdCache(None))(HeadPlace(0, 0), toward=(3,))
    assert torch.equal(view.logits(torch.tensor([IDS])), before)
    assert view.bridge.blocks[0].attn.original_component.attn_logit_softcapping == 2.0
    assert model.current_digest() == model.digest
    assert not any(one.requires_grad for one in view.bridge.parameters())


def test_without_a_key_it_is_the_one_attended_to_most(gpt2: tuple[Model, Any]) -> None:
    found = splitting(gpt2[0].view(), SvdCache(None))(HeadPlace(1, 0, -1))
    assert found.place.query == len(IDS) - 1
    assert found.attention[found.visible.index(found.place.key)] == max(found.attention)  # type: ignore[arg-type]
    assert sum(found.attention) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (HeadPlace(2, 0), "layers 0 to 1 and query heads 0 to 3"),
        (HeadPlace(0, 4), "is no head"),
        (HeadPlace(0, 0, 7), "the query 7 is no position: the prompt has tokens 0 to 6"),
        (HeadPlace(0, 0, -8), "the query -8"),
        (HeadPlace(0, 0, 2, 9), "the key 9"),
        (HeadPlace(0, 0, 2, 3), "token 2 does not see token 3: give a key from 0 to 2"),
    ],
)
def test_what_is_not_there_is_refused(gpt2: tuple[Model, Any], place: HeadPlace, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        splitting(gpt2[0].view(), SvdCache(None))(place)


def test_no_text_and_differences_of_weights_are_refused(gpt2: tuple[Model, Any], tmp_path: Path) -> None:
    model, _ = gpt2
    with pytest.raises(TaskError, match="type some text"):
        splitting(model.view(), SvdCache(None))(HeadPlace(0, 0), prompt=" ")
    tuned = families.FAMILIES["gpt2"].build()
    with torch.no_grad():
        tuned.transformer.h[0].attn.c_attn.weight += 0.1
    tuned.save_pretrained(tmp_path / "tuned")
    tiny.tokenizer().save_pretrained(tmp_path / "tuned")
    delta = load(str(tmp_path / "tuned"), basis="delta", against=model.source.name, dtype="float32", device="cpu")
    with pytest.raises(MatrixError, match="basis delta"):
        splitting(delta.view(), SvdCache(None))(HeadPlace(0, 0))


def test_logits_of_models_that_norm_the_stream_are_refused(tmp_path: Path) -> None:
    families.FAMILIES["opt-post-norm"].save(tmp_path)
    view = load(str(tmp_path), dtype="float32", device="cpu").view()
    assert splitting(view, SvdCache(None))(HeadPlace(0, 0)).length > 0
    with pytest.raises(SettingsError, match="norms the stream itself"):
        splitting(view, SvdCache(None))(HeadPlace(0, 0), toward=(3,))


@pytest.mark.parametrize("which", ["bundled", pytest.param("smollm2", marks=pytest.mark.slow)])
def test_real_models_add_up_to_their_own_scores(which: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    text = "3 x 4 =" if which == "bundled" else "The Eiffel Tower stands in the city of Paris, and the city of"
    ids, layers = read_prompt_ids(model, text), int(model.bridge.cfg.n_layers)
    split = splitting(model.view(), SvdCache(None))
    with scores_of(eager(model.source.folder), ids) as (scores, _):
        for layer in {0, layers // 2, layers - 1}:
            found = split(HeadPlace(layer, 1, -1), prompt=text)
            own = float(scores[layer][1, len(ids) - 1, found.place.key])
            assert found.score.total == pytest.approx(own, abs=1e-4)
