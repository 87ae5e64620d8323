"""The released preset agrees with `tests.released`, which is written from its description without the engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from explorer.core.config import ASSETS
from explorer.core.errors import MatrixError, SettingsError, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, check_mask
from explorer.masks.mask import load_mask
from explorer.masks.positionwise import PositionMeans, frozen_by_position
from explorer.measure.batches import answer_logits, batches
from explorer.measure.evaluate import evaluate
from explorer.models import Model, View, load
from explorer.models.matrices import kinds as view_kinds
from explorer.models.matrices import matrices
from explorer.search.released import ReleasedReport, ReleasedRequest, ReleasedSettings, run_released
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task, load_task
from tests import commands, plain, tiny
from tests.released import BOS, Prompts, Released, fold, pruned, released
from tests.removal import encoded

SIZE = 2


@pytest.fixture(scope="module")
def folded(folder: Path) -> Model:
    return load(str(folder), dtype="float64", device="cpu", basis="folded")


@pytest.fixture(scope="module")
def plain_folded(plain64: Any) -> Any:
    return fold(plain64)


@pytest.fixture
def level_task() -> Task:
    """Prompts of one length, five to score on, so that the last mini-batch of two holds one; answers of 1, 2 tokens."""
    prompts = ("w1 w2 w3", "w5 w6 w7", "w9 w1 w11", "w17 w3 w2", "w2 w2 w19", "w4 w8 w15", "w3 w12 w6")
    answers = (" w4", " w7 w8", " w14", " w18", " w1", " w2 w9", " w5")
    rows = tuple(Example(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True))
    return Task("level", "", rows[:5], rows[5:], rows[3:], seed=0)


def uneven(task: Task) -> Task:
    """A task with prompts of several lengths and no BOS."""
    return replace(task, bos=False)


def ids(task: Task, split: str) -> list[plain.Encoded]:
    found = [plain.encode_words(example) for example in task.split(split)]
    return found if task.bos else [plain.Encoded(one.prompt[1:], one.answer) for one in found]


def places(report: ReleasedReport) -> set[tuple[MatrixKey, int]]:
    return {(one.key, one.index) for one in report.mask.removed}


def same_removed(report: ReleasedReport, found: Released) -> None:
    """The same values, up to those that are as good as tied with the last one taken."""
    cut = found.scores[found.removed[-1]]
    assert len(report.mask) == len(found.removed)
    assert all(abs(found.scores[place] - cut) < 1e-12 for place in places(report) ^ set(found.removed))


def predicted(model: Any, found: Released, prompts: Prompts) -> torch.Tensor:
    with torch.no_grad(), pruned(model, found) as edited:
        return prompts.logits(edited)[:, -1]


KINDS = {"K": ((Kind.K,), 0.4), "Q, K, V": ((Kind.Q, Kind.K, Kind.V), 0.6), "all": ((), 0.95)}


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "fraction"), KINDS.values(), ids=KINDS)
def test_values_and_logits_are_those_of_the_description(
    folded: Model, plain_folded: Any, level_task: Task, svds: SvdCache, kinds: tuple[Kind, ...], fraction: float
) -> None:
    view = folded.view()
    keys = matrices(view, kinds or None)
    found = released(plain_folded, keys, ids(level_task, "train"), fraction=fraction, size=SIZE)
    report = run_released(
        view, level_task, svds, ReleasedRequest(kinds, ReleasedSettings(fraction, SIZE), control_draws=0)
    )
    same_removed(report, found)
    test = ids(level_task, "test")
    logits = predicted(plain_folded, found, Prompts.of(test, None))
    before = plain_logits(plain_folded, test)
    assert float((logits - before).abs().max()) > 1e-2
    with frozen_by_position(view, report.mask, report.means, svds) as positions, torch.no_grad():
        for batch in batches(view, level_task, level_task.test):
            first = batch.positions == batch.positions.min()
            found_logits = positions.logits(view, batch)[first]
            torch.testing.assert_close(found_logits, logits[batch.places], rtol=0, atol=1e-5)
    losses = [-float(row.log_softmax(-1)[one.answer[0]]) for row, one in zip(logits, test, strict=True)]
    assert report.test.loss == pytest.approx(losses, abs=1e-5)
    assert list(report.test.correct) == [
        int(row.argmax()) == one.answer[0] for row, one in zip(logits, test, strict=True)
    ]
    assert report.baseline.loss == pytest.approx(
        [-float(row.log_softmax(-1)[one.answer[0]]) for row, one in zip(before, test, strict=True)], abs=1e-5
    )


def plain_logits(model: Any, examples: list[plain.Encoded], length: int | None = None, pad: int = BOS) -> torch.Tensor:
    with torch.no_grad():
        return Prompts.of(examples, length, pad).logits(model)[:, -1]


PADDING = {  # whether the tokenizer adds a BOS, its padding token, and which token of an answer is asked for
    "padding is the BOS": (False, "<bos>", 0),
    "padding is another token": (False, "<unk>", 0),
    "a BOS is added": (True, "<unk>", 1),
    "a BOS is added, and padding is the BOS": (True, "<bos>", 1),
    "the BOS itself is asked for": (True, "<unk>", 0),
}


@pytest.mark.slow
@pytest.mark.parametrize(("adds", "padding", "wanted"), PADDING.values(), ids=PADDING)
def test_prompts_without_bos_are_padded_and_measured_without_padding(
    folded: Model, plain_folded: Any, tiny_task: Task, svds: SvdCache, adds: bool, padding: str, wanted: int
) -> None:
    """The reference pads all prompts as far as the model reads, to score and to predict."""
    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = padding
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", BOS)]
        )
    view, task, pad = replace(folded, tokenizer=tokenizer).view(), uneven(tiny_task), tokenizer.pad_token_id
    begins = [BOS] if adds else []
    train, test = (
        [plain.Encoded(begins + one.prompt, begins + one.answer) for one in ids(task, split)]
        for split in ("train", "test")
    )
    keys, length = matrices(view), tiny.POSITIONS
    found = released(plain_folded, keys, train, fraction=0.3, size=4, wanted=wanted, length=length, pad=pad)
    report = run_released(view, task, svds, ReleasedRequest((), ReleasedSettings(0.3, 4, wanted), control_draws=0))
    same_removed(report, found)
    assert report.means.padded
    assert (report.positions, report.reads_bos) == (length, adds or pad == BOS)
    logits = predicted(plain_folded, found, Prompts.of(test, length, pad))
    losses = [-float(row.log_softmax(-1)[one.answer[wanted]]) for row, one in zip(logits, test, strict=True)]
    assert report.test.loss == pytest.approx(losses, abs=1e-5)
    before = plain_logits(plain_folded, test, length, pad)
    losses = [-float(row.log_softmax(-1)[one.answer[wanted]]) for row, one in zip(before, test, strict=True)]
    assert report.baseline.loss == pytest.approx(losses, abs=1e-5)
    for one in report.mask.removed:
        u, s, _ = plain.svd(plain_folded, one.key)
        if s[one.index] > 1e-9 and one.key.kind is not Kind.O:  # directions of null values are anybody's
            expected = float(found.means[one.key][0] @ u[:, one.index])  # Llama's own norms are float32
            assert one.c == pytest.approx(expected, rel=1e-5, abs=1e-5)
    for key in (key for key in keys if key.kind is Kind.O):
        u, s, _ = plain.svd(plain_folded, key)
        by_position, keep = found.means[key] @ u, s > 1e-9
        got = report.means.of[key].numpy()
        np.testing.assert_allclose(got[:, keep], by_position[-len(got) :, keep], atol=1e-5, err_msg=str(key))
        further = length - len(got)
        np.testing.assert_allclose(np.tile(got[:1, keep], (further, 1)), by_position[:further, keep], atol=1e-5)


def test_what_follows_the_prompt_gets_its_last_positions_mean(
    folded: Model, plain_folded: Any, level_task: Task, svds: SvdCache
) -> None:
    view = folded.view()
    found = released(plain_folded, matrices(view, [Kind.O]), ids(level_task, "train"), fraction=0.5, size=SIZE)
    report = run_released(
        view, level_task, svds, ReleasedRequest([Kind.O], ReleasedSettings(0.5, SIZE), control_draws=0)
    )
    with pruned(plain_folded, found) as edited, torch.no_grad():
        losses = [float(plain.example_loss(edited, one)) for one in ids(level_task, "test")]
    assert report.exact["released"].loss == pytest.approx(losses, abs=1e-5)
    ordinary = evaluate(view, level_task)
    assert report.exact["baseline"].loss == pytest.approx(ordinary.loss, abs=1e-9)
    assert report.exact["released"] is not report.test
    assert report.averaged_test is not None
    assert report.averaged_test.loss != pytest.approx(report.test.loss, abs=1e-4)
    apply(view, report.mask, svds)
    assert report.exact["averaged"].loss == pytest.approx(evaluate(view, level_task).loss, abs=1e-9)


def test_the_bundled_model_agrees_on_a_few_prompts(svds: SvdCache) -> None:
    model = load("bundled", dtype="float64", basis="folded")
    whole = load_task("int-mult", 0)
    task = replace(whole, train=whole.train[:12], validation=(), test=whole.test[:8])
    view, reference = model.view(), fold(plain.load_plain(ASSETS / "bundled", torch.float64))

    def encode(example: Example) -> plain.Encoded:
        prompt, answer = (
            model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (example.prompt, example.answer)
        )
        return plain.Encoded([model.tokenizer.bos_token_id, *prompt], answer)

    keys = matrices(view, [Kind.K])
    found = released(reference, keys, [encode(one) for one in task.train], fraction=0.2, size=5)
    report = run_released(view, task, svds, ReleasedRequest([Kind.K], ReleasedSettings(0.2, 5), control_draws=0))
    same_removed(report, found)
    assert "validation" not in report.released
    test = [encode(one) for one in task.test]
    logits = predicted(reference, found, Prompts.of(test, None))
    losses = [-float(row.log_softmax(-1)[one.answer[0]]) for row, one in zip(logits, test, strict=True)]
    assert report.test.loss == pytest.approx(losses, abs=1e-4)
    assert report.exact["released"] is report.test


def test_the_cut_of_every_kind_comes_from_the_list_of_all_kinds(
    folded: Model, level_task: Task, svds: SvdCache
) -> None:
    """So the largest kind's share is how many go, whatever their kinds."""
    view = folded.view()
    kinds = [Kind.K, Kind.OUT]
    report = run_released(view, level_task, svds, ReleasedRequest(kinds, ReleasedSettings(0.37, SIZE), control_draws=0))
    sizes = [sum(svds.get(view, key).rank for key in matrices(view, [kind])) for kind in kinds]
    assert (sizes[0] != sizes[1]) == (view.model.architecture == "LlamaForCausalLM")
    assert len(report.mask) == max(int(0.37 * size) for size in sizes)


def test_mini_batches_of_one_go_in_the_order_of_places(folded: Model, level_task: Task, svds: SvdCache) -> None:
    view = folded.view()
    keys = matrices(view, [Kind.Q, Kind.K])
    every = [(key, index) for key in keys for index in range(svds.get(view, key).rank)]
    report = run_released(
        view, level_task, svds, ReleasedRequest([Kind.Q, Kind.K], ReleasedSettings(0.3, 1), control_draws=0)
    )
    assert [(one.key, one.index) for one in report.mask.removed] == every[: len(report.mask)]
    assert len(report.mask) > 3


def test_the_mask_is_what_was_measured_unless_it_removes_values_of_O(
    folded: Model, level_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    view = folded.view()
    kinds = [kind for kind in view_kinds(view) if kind is not Kind.O]
    report = run_released(view, level_task, svds, ReleasedRequest(kinds, ReleasedSettings(0.9, SIZE), control_draws=0))
    check_mask(view, report.mask, svds)
    assert (report.averaged, report.averaged_test, dict(report.means.of)) == ({}, None, {})
    assert set(report.exact) == {"baseline", "released"}
    report.mask.save(tmp_path / "mask.json")
    again = load_mask(tmp_path / "mask.json")
    assert again == report.mask
    assert again.metrics["frozen_means"] == "summed over the token positions of the last mini-batch"
    assert (again.provenance.scorer, again.provenance.examples, again.model.basis) == ("as-released", 5, "folded")
    apply(view, again, svds)
    assert report.exact["released"].loss == pytest.approx(evaluate(view, level_task).loss, abs=1e-12)


def test_means_of_O_are_averaged_in_the_mask_and_it_says_so(folded: Model, level_task: Task, svds: SvdCache) -> None:
    view = folded.view()
    report = run_released(
        view, level_task, svds, ReleasedRequest([Kind.O], ReleasedSettings(0.3, SIZE), control_draws=0)
    )
    for one in report.mask.removed:
        assert one.c == pytest.approx(float(report.means.of[one.key][:, one.index].mean()), abs=1e-9)
    assert "of O averaged over its real tokens" in report.mask.metrics["frozen_means"]


def test_controls_are_frozen_alike(folded: Model, level_task: Task, svds: SvdCache) -> None:
    view = folded.view()
    settings = ReleasedSettings(0.99, SIZE)
    first = run_released(view, level_task, svds, ReleasedRequest([Kind.K], settings, control_draws=3, seed=4))
    again = run_released(view, level_task, svds, ReleasedRequest([Kind.K], settings, control_draws=3, seed=4))
    assert {name: len(runs.runs) for name, runs in first.controls.items()} == {
        "random-per-matrix": 3, "random-energy": 3, "smallest": 1, "largest": 1
    }  # fmt: skip
    assert first.controls == again.controls
    assert first.mask == again.mask
    whole = run_released(
        view, level_task, svds, ReleasedRequest([Kind.K], replace(settings, fraction=1.0), control_draws=1)
    )
    for name in ("random-per-matrix", "smallest", "largest"):  # all values of every matrix: nothing is left to choose
        assert whole.controls[name].runs[0].loss == pytest.approx(whole.test.loss, abs=1e-9)


def test_limits_hold_and_the_report_is_plain(folded: Model, level_task: Task, svds: SvdCache) -> None:
    report = run_released(
        folded.view(),
        level_task,
        svds,
        ReleasedRequest([Kind.K], ReleasedSettings(0.3, SIZE), limit=3, test_limit=1, control_draws=2),
    )
    assert (report.train.n, report.test.n, report.released["validation"].n) == (3, 1, 1)
    assert report.test.examples == level_task.test[:1]
    said = json.loads(json.dumps(report.as_dict()))
    assert said["batch_size"] == SIZE
    assert said["removed"] == len(report.mask) == sum(said["removed_by_kind"].values())
    assert said["test"]["n"] == said["baseline"]["n"] == 1
    assert said["averaged"] == {}
    assert said["controls"]["random-per-matrix"]["draws"] == 2
    assert said["forwards"] == 4 * 3


def test_the_shared_model_and_the_view_are_left_as_they_were(folded: Model, tiny_task: Task, svds: SvdCache) -> None:
    view = folded.view()
    tokens = torch.tensor([[0, 3, 5, 8]])
    with torch.no_grad():
        before = view.logits(tokens)
    run_released(view, uneven(tiny_task), svds, ReleasedRequest((), ReleasedSettings(0.5, 3), control_draws=1))
    assert folded.current_digest() == folded.digest
    assert view.applied == {}
    with torch.no_grad():
        assert torch.equal(view.logits(tokens), before)

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_released(
            view, uneven(tiny_task), svds, ReleasedRequest((), ReleasedSettings(0.5, 3), control_draws=1), progress=stop
        )
    with torch.no_grad():
        assert torch.equal(view.logits(tokens), before)


def test_what_the_released_code_could_not_do_is_refused(
    folded: Model, model: Model, tiny_task: Task, level_task: Task, svds: SvdCache
) -> None:
    view = folded.view()
    with pytest.raises(TaskError, match=r"the prompts have 2 to 6 tokens: .* all prompts need one length"):
        run_released(view, tiny_task, svds, ReleasedRequest([Kind.K], ReleasedSettings()))
    with pytest.raises(SettingsError, match=r"loaded in the raw basis, .* load it in the folded basis"):
        run_released(model.view(), level_task, svds, ReleasedRequest([Kind.K], ReleasedSettings()))
    with pytest.raises(SettingsError, match="an answer has 1 tokens, answer_token is 1"):
        run_released(view, level_task, svds, ReleasedRequest([Kind.K], ReleasedSettings(answer_token=1)))
    with pytest.raises(SettingsError, match="less than one value: give a larger one"):
        run_released(view, level_task, svds, ReleasedRequest([Kind.K], ReleasedSettings(fraction=0.001)))
    for wrong in ({"fraction": 0.0}, {"fraction": 1.5}, {"batch_size": 0}, {"answer_token": -1}):
        with pytest.raises(SettingsError, match="give"):
            ReleasedSettings(**wrong)  # type: ignore[arg-type]
    if view.model.architecture == "GPT2LMHeadModel":
        with pytest.raises(MatrixError, match="has no GATE matrices"):
            run_released(view, level_task, svds, ReleasedRequest([Kind.GATE], ReleasedSettings()))
    raw = run_released(
        model.view(),
        level_task,
        svds,
        ReleasedRequest([Kind.K], ReleasedSettings(0.3, 2), control_draws=0, allow_raw=True),
    )
    assert raw.mask.model.basis == "raw"


def test_another_answer_token_is_asked_for_where_the_first_one_is_predicted(
    folded: Model, plain_folded: Any, level_task: Task, svds: SvdCache
) -> None:
    rows = tuple(replace(one, answer=one.answer + " w10") for one in level_task.train)
    task = replace(level_task, train=rows, validation=(), test=rows)
    view = folded.view()
    found = released(plain_folded, matrices(view, [Kind.K]), ids(task, "train"), fraction=0.3, size=3, wanted=1)
    report = run_released(view, task, svds, ReleasedRequest([Kind.K], ReleasedSettings(0.3, 3, 1), control_draws=0))
    same_removed(report, found)
    logits = predicted(plain_folded, found, Prompts.of(ids(task, "test"), None))
    losses = [-float(row.log_softmax(-1)[one.answer[1]]) for row, one in zip(logits, ids(task, "test"), strict=True)]
    assert report.test.loss == pytest.approx(losses, abs=1e-5)


def test_means_belong_to_a_length(view: View, tiny_task: Task, svds: SvdCache) -> None:
    from explorer.search import prune

    mask = prune(view, tiny_task, svds, kinds=[Kind.O], count=3)
    means = PositionMeans({key: torch.zeros(4, svds.get(view, key).rank) for key in mask.by_matrix})
    batch = batches(view, tiny_task, tiny_task.test)[0]
    with (
        frozen_by_position(view, mask, means, svds) as positions,
        pytest.raises(TaskError, match="the prompts have 2 to 6 tokens, the frozen means by position are of 4"),
    ):
        positions.run(view, batch)
    assert view.applied == {}


def test_the_tiny_models_padding_token_is_the_references(folded: Model) -> None:
    assert (folded.tokenizer.pad_token_id, folded.tokenizer.eos_token_id, BOS) == (None, None, 0)
    assert [one.prompt[0] for one in encoded(tiny.task())] == [0] * 6


@pytest.mark.slow
@pytest.mark.usefixtures("isolated_folders")
def test_the_command_reports_and_writes_the_ordinary_mask(tmp_path: Path) -> None:
    out = tmp_path / "mask.json"
    words = ("search", "--model", "bundled", "--task", "int-mult", "--kinds", "K", "--strategy", "paper")
    given = (*words, "--as-released", "--limit", 16, "--batch-size", 4, "--controls", 1, "--out", out)
    said = commands.report(*given)
    assert said["as_released"] is True
    assert (said["basis"], said["batch_size"], said["fraction"], said["positions"]) == ("folded", 4, 0.2, 5)
    assert (said["padded"], said["reads_bos"], said["averaged"]) == (False, True, {})
    assert said["mask_digest"] == load_mask(out).digest
    shown = commands.run(*given)
    assert "as released" in shown.stdout
    assert "averaged" not in shown.stdout
    assert "frozen alike" in shown.stdout
    with_o = commands.run(*("K,O" if word == "K" else word for word in given))
    assert "with averaged means in O" in with_o.stdout
    assert "--strategy paper" in commands.refused(*given[:7], "--as-released", "--out", out)
    assert "leave out --stacked" in commands.refused(*given, "--stacked")
    assert "leave out --mode zero" in commands.refused(*given, "--mode", "zero")
    assert "leave out --layers" in commands.refused(*given, "--layers", "0")


@pytest.mark.parametrize("kinds", [(Kind.K, Kind.OUT), (Kind.K, Kind.OUT, Kind.O)])
@pytest.mark.parametrize("gain", [0.0, 0.4])
def test_equal_means_at_all_positions_are_the_masks_own_freeze(
    view64: View, tiny_task: Task, svds: SvdCache, gain: float, kinds: tuple[Kind, ...]
) -> None:
    """Of some matrices only: the others have the mask's own."""
    from explorer.search import prune

    mask = prune(view64, tiny_task, svds, kinds=kinds, count=9).scaled(gain)
    of = {}
    assert len({key.kind for key in mask.by_matrix}) > 1
    for key, removed in mask.by_matrix.items():
        if key.kind is Kind.K:
            continue
        of[key] = torch.zeros(4, svds.get(view64, key).rank, dtype=torch.float64)
        for one in removed:
            of[key][:, one.index] = one.c
    batch = batches(view64, tiny_task, tiny_task.test)[0]
    with torch.no_grad():
        with frozen_by_position(view64, mask, PositionMeans(of, padded=True), svds) as positions:
            by_position = positions.logits(view64, batch)
        apply(view64, mask, svds)
        usual = answer_logits(view64, batch)
        apply(view64, mask.without_all(), svds)
    torch.testing.assert_close(by_position, usual, rtol=0, atol=1e-6)
    assert not torch.allclose(usual, answer_logits(view64, batch))
