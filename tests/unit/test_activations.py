"""Readings against what plain transformers reports of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.attribution import score
from explorer.core.errors import TaskError
from explorer.core.keys import Kind
from explorer.masks.activations import Contrast, answer_lens, contrast, read_prompt, written
from explorer.masks.apply import apply, empty_mask
from explorer.models import Model, View
from explorer.models.matrices import matrices, output_hook, parts_of
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Framing, Task
from tests import plain, tiny

PROMPT = "w3 w1 w4 w1 w5"
IDS = [0, *(tiny.IDS[word] for word in PROMPT.split())]


@pytest.fixture
def plain_run(folder: Path) -> Any:
    """The prompt through plain transformers, with everything that it can report."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)


def test_a_reading_holds_what_the_model_read(view: View) -> None:
    found = read_prompt(view, PROMPT)
    assert found.ids == tuple(IDS)
    assert found.tokens == ("<bos>", *PROMPT.split())
    assert read_prompt(view, PROMPT, Framing("never")).ids == tuple(IDS[1:])
    assert read_prompt(view, f"<bos> {PROMPT}").ids == tuple(IDS)


def test_attention_is_the_models_own(arch: str, view: View, plain_run: Any) -> None:
    found = read_prompt(view, PROMPT)
    assert len(found.attention) == tiny.LAYERS
    for pattern, expected in zip(found.attention, plain_run.attentions, strict=True):
        assert pattern.shape == (tiny.Q_HEADS[arch], 6, 6)
        torch.testing.assert_close(pattern, expected[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(tiny.Q_HEADS[arch], 6), rtol=0, atol=1e-5)
        assert float(pattern.triu(diagonal=1).abs().max()) == 0, "no token attends to a later one"


def test_the_residual_stream_is_the_models_own(view: View, plain_run: Any) -> None:
    found = read_prompt(view, PROMPT)
    assert found.residual.shape == (tiny.LAYERS + 1, 6, view.config.d_model)
    for place, expected in enumerate(plain_run.hidden_states[:-1]):  # transformers' last entry is after the final norm
        torch.testing.assert_close(found.residual[place], expected[0], rtol=0, atol=1e-5)
    normed = view.bridge.ln_final(found.residual[-1][None])[0]
    torch.testing.assert_close(normed, plain_run.hidden_states[-1][0], rtol=0, atol=1e-5)


def test_the_last_lens_is_the_models_own_prediction(view: View, plain_run: Any) -> None:
    found = read_prompt(view, PROMPT)
    expected = plain_run.logits[0, -1].log_softmax(dim=-1)
    assert found.lens.shape == (tiny.LAYERS + 1, len(tiny.WORDS))
    torch.testing.assert_close(found.lens[-1], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.lens.exp().sum(dim=-1), torch.ones(tiny.LAYERS + 1), rtol=0, atol=1e-5)
    assert not torch.allclose(found.lens[0], found.lens[-1])


def test_the_top_tokens_are_the_most_likely_ones(view: View, plain_run: Any) -> None:
    found = read_prompt(view, PROMPT)
    probabilities = plain_run.logits[0, -1].softmax(dim=-1)
    expected = sorted(range(len(tiny.WORDS)), key=lambda token: -float(probabilities[token]))[:4]
    assert [token for token, _ in found.top(4)] == expected
    assert [value for _, value in found.top(4)] == pytest.approx([float(probabilities[t]) for t in expected], abs=1e-5)
    assert found.top(1, layer=0)[0][0] == int(found.lens[0].argmax())


def test_the_answers_lens_follows_its_first_token(view: View) -> None:
    found = read_prompt(view, PROMPT)
    assert answer_lens(found, [5, 9]) == found.lens[:, 5].tolist()


def test_reading_is_repeatable_and_leaves_no_hook(view: View) -> None:
    before = view.logits(torch.tensor([IDS]))
    first, second = read_prompt(view, PROMPT), read_prompt(view, PROMPT)
    assert torch.equal(first.residual, second.residual)
    assert torch.equal(first.lens, second.lens)
    assert torch.equal(view.logits(torch.tensor([IDS])), before)


def test_a_contrast_of_equal_views_is_exactly_nothing(model: Model) -> None:
    found = Contrast(read_prompt(model.view(), PROMPT), read_prompt(model.view(), PROMPT))
    assert found.first_changed_layer() is None
    assert float(found.residual_change().abs().max()) == 0
    for layer in range(tiny.LAYERS):
        assert float(found.attention_difference(layer, 0).abs().max()) == 0


@pytest.mark.parametrize("layer", range(tiny.LAYERS))
@pytest.mark.parametrize("kind", [Kind.K, Kind.OUT])
def test_a_contrast_starts_at_the_touched_layer(
    view: View, tiny_task: Task, svds: SvdCache, layer: int, kind: Kind
) -> None:
    scored = score(view, tiny_task, svds, matrices(view, [kind], [layer]))
    key = next(iter(scored.matrices))
    before = read_prompt(view, PROMPT)
    apply(view, mask_of(view, scored, [scored.removed(key, 0), scored.removed(key, 1)]), svds)
    after = read_prompt(view, PROMPT)
    found = Contrast(before, after)
    assert found.first_changed_layer() == layer
    change = found.residual_change()
    expected = (after.residual - before.residual).norm(dim=-1) / before.residual.norm(dim=-1)
    torch.testing.assert_close(change, expected)
    assert float(change[: layer + 1].max()) == 0
    assert float(change[layer + 1].max()) > 0
    touched = found.attention_difference(layer, 0)
    assert torch.equal(touched, after.attention[layer][0] - before.attention[layer][0])
    assert (float(touched.abs().max()) > 0) == (kind is Kind.K)


@pytest.mark.parametrize("gain", [0.0, 0.25])
def test_a_contrast_is_of_the_unpruned_view_and_the_masked_one(
    model: Model, tiny_task: Task, svds: SvdCache, gain: float
) -> None:
    view, other = model.view(), model.view()
    scored = score(view, tiny_task, svds, matrices(view, [Kind.V]))
    masks = [mask_of(view, scored, [scored.removed(key, 0)], gain=gain) for key in list(scored.matrices)[:2]]
    apply(view, masks[0], svds)  # what is on the view before does not matter
    found = contrast(view, masks[1], svds, PROMPT)
    assert torch.equal(found.before.residual, read_prompt(other, PROMPT).residual)
    apply(other, masks[1], svds)
    assert torch.equal(found.after.residual, read_prompt(other, PROMPT).residual)
    after, before = ([token for token, _ in reading.top(4)] for reading in (found.after, found.before))
    assert found.next_tokens(4) == [*after, *(token for token in before if token not in after)]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "the prompt is empty: type some text"),
        ("   ", "the prompt is empty: type some text"),
        (" ".join(["w1"] * tiny.POSITIONS), "the prompt has 17 tokens: type some text of 1 to 16 tokens"),
    ],
)
def test_prompts_of_no_or_too_many_tokens_are_refused(view: View, prompt: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        read_prompt(view, prompt)


def test_a_prompt_as_long_as_the_model_reads_is_taken(view: View) -> None:
    assert len(read_prompt(view, " ".join(["w1"] * (tiny.POSITIONS - 1))).ids) == tiny.POSITIONS


def test_head_changes_are_the_share_of_attention_that_moved(view: View, tiny_task: Task, svds: SvdCache) -> None:
    scored = score(view, tiny_task, svds, matrices(view, [Kind.K], [1]))
    key = next(iter(scored.matrices))
    before = read_prompt(view, PROMPT)
    apply(view, mask_of(view, scored, [scored.removed(key, 0)]), svds)
    found = Contrast(before, read_prompt(view, PROMPT))
    changes = found.head_changes()
    for layer, (now, then) in enumerate(zip(found.after.attention, found.before.attention, strict=True)):
        for head in range(len(now)):
            moved = [
                sum(max(0.0, float(now[head, q, k] - then[head, q, k])) for k in range(len(IDS)))
                for q in range(len(IDS))
            ]
            assert float(changes[layer, head]) == pytest.approx(sum(moved) / len(IDS), abs=1e-6)
    assert float(changes[0].max()) == 0
    best = found.most_changed_head()
    assert best is not None
    assert float(changes[best]) == float(changes.max()) > 0
    assert Contrast(before, before).most_changed_head() is None


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 0.25])
@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_what_removed_values_wrote_is_what_plain_hooks_see(
    view64: View, plain64: Any, tiny_task: Task, svds: SvdCache, mode: Any, gain: float
) -> None:
    keys = matrices(view64)
    scored = score(view64, tiny_task, svds, keys, mode=mode)
    chosen = [scored.removed(key, i) for key in keys for i in (0, scored.matrices[key].s.numel() - 1)]
    mask = mask_of(view64, scored, chosen, gain=gain)
    apply(view64, mask, svds)
    found = written(view64, mask, svds, PROMPT)
    assert found.tokens == ("<bos>", *PROMPT.split())
    assert found.values == mask.removed
    assert not view64.applied, "the view is left unpruned"
    for key in keys:
        where = plain.site(plain64, key)
        reads: list[torch.Tensor] = []
        with torch.no_grad(), plain.on_output(where.module, lambda x, y, reads=reads: reads.append(x) or y):
            plain64(torch.tensor([IDS]))
        x = reads[0][0, :, where.rows].numpy()
        u, s, _ = plain.svd(plain64, key)
        for place, one in enumerate(mask.removed):
            if one.key != key:
                continue
            slow = [s[one.index] * sum(x[n, d] * u[d, one.index] for d in range(x.shape[1])) for n in range(len(IDS))]
            assert found.before[place].tolist() == pytest.approx(slow, rel=1e-4, abs=1e-5)
            frozen = s[one.index] * one.c if mode == "freeze" else 0
            after = [gain * wrote + (1 - gain) * frozen for wrote in slow]
            assert found.after[place].tolist() == pytest.approx(after, rel=1e-4, abs=1e-5)
    change = (found.before - found.after).norm(dim=1)
    assert change[found.by_change()].tolist() == sorted(change.tolist(), reverse=True)


@pytest.mark.parametrize("gain", [0.0, 0.25])
def test_what_was_written_explains_the_matrixs_whole_change(
    view64: View, tiny_task: Task, svds: SvdCache, gain: float
) -> None:
    key = next(iter(matrices(view64, [Kind.V], [0])))  # nothing before it changes what it reads
    scored = score(view64, tiny_task, svds, [key])
    mask = mask_of(view64, scored, [scored.removed(key, i) for i in range(2)], gain=gain)
    found = written(view64, mask, svds, PROMPT)
    outputs = []
    for one in (mask.without_all(), mask):
        apply(view64, one, svds)
        kept: list[torch.Tensor] = []
        with view64.bridge.hooks(fwd_hooks=[(output_hook(key), lambda y, hook, kept=kept: kept.append(y.flatten(2)))]):
            view64.logits(torch.tensor([IDS]))
        outputs.append(kept[0][0][:, parts_of(view64, key)[1]].double())
    vh = svds.get(view64, key).vh[:2].double()
    expected = (found.before - found.after).T.double() @ vh
    torch.testing.assert_close(outputs[0] - outputs[1], expected, rtol=0, atol=1e-5)


def test_nothing_removed_wrote_nothing_and_bad_prompts_are_refused(view: View, svds: SvdCache) -> None:
    found = written(view, empty_mask(view.model), svds, PROMPT)
    assert found.values == ()
    assert found.before.shape == (0, len(IDS))
    assert found.by_change() == []
    with pytest.raises(TaskError, match="type some text"):
        written(view, empty_mask(view.model), svds, " ")
