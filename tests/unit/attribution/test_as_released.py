"""The released implementation's score, against loops written from its description over plain transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from explorer.attribution import Options, ScoringRequest, score
from explorer.attribution.minibatches import adds_bos, mini_batches
from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.batches import batches
from explorer.models import View, load
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import plain, tiny
from tests.families import FAMILIES
from tests.removal import encoded

SIZE = 2


@pytest.fixture
def level_task() -> Task:
    """Five prompts of one length, so that the last mini-batch of two holds one; answers of one and two tokens."""
    prompts = ("w1 w2 w3", "w5 w6 w7", "w9 w1 w11", "w17 w3 w2", "w2 w2 w19")
    answers = (" w4", " w7 w8", " w14", " w18", " w1")
    rows = tuple(Example(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True))
    return Task("level", "", rows, rows, rows, seed=0)


def before(model: Any, key: MatrixKey) -> tuple[Any, bool]:
    """The plain module at which the released code reads a matrix's input, and whether it is that module's output."""
    gpt2 = model.config.model_type == "gpt2"
    block = model.transformer.h[key.layer] if gpt2 else model.model.layers[key.layer]
    if key.kind is Kind.O:
        return (block.attn.c_proj if gpt2 else block.self_attn.o_proj), False
    if key.kind is Kind.OUT:
        return (block.mlp.c_fc if gpt2 else block.mlp.gate_proj), True
    if key.kind in (Kind.Q, Kind.K, Kind.V):
        return (block.ln_1 if gpt2 else block.input_layernorm), False
    return (block.ln_2 if gpt2 else block.post_attention_layernorm), False


def mini_batch(model: Any, key: MatrixKey, prompts: list[list[int]], answers: list[int]) -> tuple[Any, Any]:
    """x before the norm and the gradient g of the mini-batch's mean loss, both [example][position] -> vector."""
    where, (module, of_output) = plain.site(model, key), before(model, key)
    caught: dict[str, torch.Tensor] = {}

    def keep(_: Any, inputs: Any, output: Any) -> None:
        caught["x"] = (output if of_output else inputs[0]).detach()

    def at_output(_: Any, inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        caught["y"] = output

    handles = [module.register_forward_hook(keep), where.module.register_forward_hook(at_output)]
    model.zero_grad()
    logits = model(torch.tensor(prompts)).logits
    loss = -sum(logits[b, -1].log_softmax(dim=-1)[token] for b, token in enumerate(answers)) / len(answers)
    loss.backward()
    for handle in handles:
        handle.remove()
    x, g = caught["x"][..., where.rows], caught["y"].grad[..., where.columns]  # type: ignore[index]
    return x.double().numpy(), g.double().numpy()


def slow(model: Any, key: MatrixKey, task: Task) -> tuple[list[float], plain.Array]:
    u, s, vh = plain.svd(model, key)
    largest = [-np.inf] * len(s)
    examples = encoded(task)
    for start in range(0, len(examples), SIZE):
        chosen = examples[start : start + SIZE]
        x, g = mini_batch(model, key, [one.prompt for one in chosen], [one.answer[0] for one in chosen])
        for b in range(len(chosen)):
            other = b - 1  # the first example's is the last
            for position in range(x.shape[1]):
                for i in range(len(s)):
                    swapped = s[i] * float((x[other, position] - x[b, position]) @ u[:, i])
                    largest[i] = max(largest[i], swapped * float(vh[i] @ g[b, position]))
    means = x.mean(axis=0)  # of the last mini-batch
    return largest, (means.mean(axis=0) if key.kind is Kind.O else means.sum(axis=0)) @ u


def test_scores_and_frozen_means_equal_the_description_in_loops(
    view64: View, plain64: Any, level_task: Task, svds: SvdCache
) -> None:
    keys = (*matrices(view64, layers=[1]), *matrices(view64, layers=[0], per_head=False))
    options = Options(batch_size=SIZE)
    found = score(view64, level_task, svds, keys, scorer="as-released", options=options)
    for key in keys:
        expected, c = slow(plain64, key, level_task)
        matrix = found.matrices[key]
        scale = max(map(abs, expected))
        np.testing.assert_allclose(matrix.score, expected, rtol=1e-5, atol=1e-8 + 1e-5 * scale, err_msg=str(key))
        np.testing.assert_allclose(matrix.c, c, rtol=1e-5, atol=1e-6, err_msg=str(key))
        assert scale > 1e-5
    assert found.loss == pytest.approx(plain.mean_loss(plain64, encoded(level_task)), rel=1e-6)


def test_with_mini_batches_of_one_every_score_is_zero(view: View, level_task: Task, svds: SvdCache) -> None:
    keys = matrices(view, layers=[0])
    found = score(view, level_task, svds, keys, scorer="as-released", options=Options(batch_size=1))
    assert all(not bool(found.matrices[key].score.any()) for key in keys)


def test_the_order_of_the_examples_and_the_size_of_the_batches_matter(
    view: View, level_task: Task, svds: SvdCache
) -> None:
    key = MatrixKey(1, Kind.V)
    few, many = (
        score(view, level_task, svds, [key], scorer="as-released", options=Options(batch_size=size)).matrices[key].score
        for size in (2, 5)
    )
    assert not torch.allclose(few, many)


def test_prompts_of_several_lengths_and_missing_answer_tokens_are_refused(
    view: View, tiny_task: Task, level_task: Task, svds: SvdCache
) -> None:
    key = MatrixKey(0, Kind.Q)
    with pytest.raises(TaskError, match=r"the prompts have 2 to 6 tokens: .* all prompts need one length"):
        score(view, tiny_task, svds, [key], scorer="as-released")
    with pytest.raises(SettingsError, match="an answer has 1 tokens, answer_token is 1: give 0 or less"):
        score(view, level_task, svds, [key], scorer="as-released", options=Options(answer_token=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_read_before_its_norms(
    name: str, level_task: Task, svds: SvdCache, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In the first block that is, for Q, K and V, the residual stream as it comes in."""
    model = load(str(FAMILIES[name].save(tmp_path_factory.mktemp(name))), dtype="float32", device="cpu")
    view = replace(model, tokenizer=tiny.tokenizer()).view()
    keys = matrices(view, layers=[0], per_head=False)
    found = score(view, level_task, svds, keys, scorer="as-released", options=Options(batch_size=5))
    assert all(bool(found.matrices[key].score.isfinite().all()) for key in keys)
    caught: list[torch.Tensor] = []
    tokens = torch.tensor([one.prompt for one in encoded(level_task)])
    with torch.no_grad(), view.bridge.hooks(fwd_hooks=[("blocks.0.hook_in", lambda x, hook: caught.append(x))]):
        view.logits(tokens)
    stream = caught[0].mean(dim=0).sum(dim=0)
    assert adds_bos(view) == (model.architecture == "PhiForCausalLM")  # TransformerLens asks Phi's tokenizer for one
    padded_prompts_compute_what_they_compute_alone(view, svds)
    for key in keys:
        if key.kind in (Kind.Q, Kind.K, Kind.V):
            torch.testing.assert_close(found.matrices[key].c, stream @ svds.get(view, key).u, rtol=1e-4, atol=1e-5)


def padded_prompts_compute_what_they_compute_alone(view: View, svds: SvdCache) -> None:
    """And padding computes the same everywhere, whatever stands beside it."""
    task, keys = replace(tiny.task(), bos=False), matrices(view, per_head=False)
    options = Options(batch_size=3, padded_to=9)
    found = score(view, task, svds, keys, scorer="as-released", options=options)
    assert all(bool(found.matrices[key].score.isfinite().all()) for key in keys)
    request = ScoringRequest(view, svds, keys, batches(view, task, task.train), "freeze", 0, None, options=options)
    caught: list[torch.Tensor] = []
    prompts = [one.prompt[1:] for one in encoded(task)]
    for number, batch in enumerate(mini_batches(request)):
        with torch.no_grad(), batch.padding(view):
            with view.bridge.hooks(fwd_hooks=[("blocks.1.hook_out", lambda x, hook: caught.append(x))]):
                logits = batch.logits(view)
            for row in range(len(batch)):
                prompt = prompts[3 * number + row]
                assert batch.aligned(batch.tokens.double())[row, -len(prompt) :].tolist() == prompt
                assert int(batch.real[row].sum()) == len(prompt)
        assert batch.tokens.shape[1] + batch.beyond == 9
        with torch.no_grad():
            alone = [view.logits(torch.tensor([prompts[3 * number + row]]))[0, -1] for row in range(len(batch))]
        torch.testing.assert_close(logits, torch.stack(alone), rtol=1e-4, atol=1e-4)
        stream = batch.aligned(caught[-1])
        padding = stream[~batch.real]
        torch.testing.assert_close(padding, padding[:1].expand_as(padding), rtol=1e-4, atol=1e-4)
        every = torch.cat([padding[:1].expand(len(batch), batch.beyond, -1), stream], dim=1)
        torch.testing.assert_close(batch.summed(stream), every.mean(dim=0).sum(dim=0), rtol=1e-4, atol=1e-4)


def test_prompts_longer_than_they_are_padded_to_are_refused(view: View, tiny_task: Task, svds: SvdCache) -> None:
    with pytest.raises(TaskError, match="a prompt has 6 tokens: the released code cuts what is longer than 5"):
        score(view, tiny_task, svds, [MatrixKey(0, Kind.Q)], scorer="as-released", options=Options(padded_to=5))
