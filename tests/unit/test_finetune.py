"""Fine-tuning trains a copy as a slow loop over plain transformers does, and leaves a whole folder or none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.core.errors import ModelError, SettingsError, Stopped, TaskError
from explorer.experiments.finetune import OPTIMIZERS, RECORD, Training, check_out, finetune
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.tasks import Task, load_task
from tests import plain, tiny
from tests.families import FAMILIES

Optimizer = Callable[..., torch.optim.Optimizer]


def slowly(folder: Path, task: Task, optimizer: Optimizer, *, rate: float, size: int, steps: int, seed: int) -> Any:
    """Plain transformers, example by example, without padding; and the losses of the steps."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()  # Llama's norms are float32 in it
    steps_of = optimizer(model.parameters(), lr=rate)
    chance, order, found = random.Random(seed), list(task.train), []
    while len(found) < steps:
        chance.shuffle(order)
        for start in range(0, len(order), size):
            group = order[start : start + size]
            loss = sum(plain.example_loss(model, plain.encode_words(example)) for example in group) / len(group)
            steps_of.zero_grad()
            loss.backward()
            steps_of.step()
            found.append(float(loss.detach()))
    return model, found[:steps]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_does_what_a_slow_loop_does(
    folder: Path, model64: Model, tiny_task: Task, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "tuned"
    found = finetune(
        model64, tiny_task, Training(epochs=2, learning_rate=0.01, batch_size=4, optimizer=name, seed=5), out=out
    )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    model, losses = slowly(folder, tiny_task, kind, rate=0.01, size=4, steps=4, seed=5)
    assert found.losses == pytest.approx(losses, rel=1e-6)
    ours = plain.load_plain(out, torch.float64).state_dict()
    for weight_name, weight in model.state_dict().items():
        torch.testing.assert_close(ours[weight_name], weight, rtol=1e-5, atol=1e-6)
    assert len(found.losses) == 4
    assert found.after["train"].mean_loss.value < found.before["train"].mean_loss.value


def test_the_folder_opens_here_and_in_plain_transformers(model: Model, tiny_task: Task, tmp_path: Path) -> None:
    out = tmp_path / "new" / "tuned"
    found = finetune(model, tiny_task, Training(steps=3, learning_rate=0.01), out=out)
    opened = load(str(out), dtype="float32", device="cpu")
    assert opened.digest == found.digest != model.digest == found.base_digest
    reference = plain.load_plain(out)
    tokens = torch.tensor([[0, 3, 4, 5], [0, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(opened.view().logits(tokens), reference(tokens).logits, rtol=1e-5, atol=1e-5)
    words = AutoTokenizer.from_pretrained(out)
    assert words("w1 w2")["input_ids"] == model.tokenizer("w1 w2")["input_ids"]
    for split, after in found.after.items():
        assert evaluate(opened.view(), tiny_task, split) == after
        assert evaluate(model.view(), tiny_task, split) == found.before[split]
    record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    assert (record["model_digest"], record["digest"], record["steps"]) == (model.digest, found.digest, 3)
    assert [path.name for path in out.parent.iterdir()] == ["tuned"]  # nothing temporary is left
    assert not [path for path in out.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]


def test_equal_seeds_give_equal_weights_and_the_shared_model_stays(
    model: Model, tiny_task: Task, tmp_path: Path
) -> None:
    tokens = torch.tensor([[0, 3, 4, 5]])
    view = model.view()
    with torch.no_grad():
        before = view.logits(tokens)
    digests = [
        finetune(model, tiny_task, Training(learning_rate=0.01, batch_size=2, seed=seed), out=tmp_path / str(i)).digest
        for i, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert model.current_digest() == model.digest
    with torch.no_grad():
        assert torch.equal(view.logits(tokens), before)
    assert not any(weight.requires_grad for weight in model.bridge.parameters())


def test_the_bundled_model_learns_its_train_split(bundled: Model, tmp_path: Path) -> None:
    task = load_task("int-mult", 0)
    found = finetune(bundled, task, Training(learning_rate=1e-4, limit=40, epochs=3), out=tmp_path / "tuned")
    assert len(found.losses) == 15
    assert found.after["train"].mean_loss.value < 0.8 * found.before["train"].mean_loss.value
    assert found.losses[-1] < found.losses[0]
    assert [found.before[split].n for split in ("train", "validation", "test")] == [40, 40, 40]
    assert bundled.current_digest() == bundled.digest
    report = json.loads(json.dumps(found.as_dict()))
    assert (report["epochs"], report["steps"], report["limit"]) == (3, 15, 40)
    assert report["change"]["train"]["loss"]["interval"][1] < 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 1, "steps": 2}, "1 epochs and 2 steps were asked for"),
        ({"epochs": 0}, "epochs is 0: give 1 or more"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning rate is 0.0: give a number above 0"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
        ({"optimizer": "sgd"}, "'sgd' is not an optimizer: choose one of adamw, adam"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Training(**settings)


@pytest.mark.parametrize(
    ("settings", "steps"), [({}, 4), ({"epochs": 2}, 8), ({"steps": 3}, 3), ({"batch_size": 99}, 1)]
)
def test_steps_are_counted_from_the_passes(settings: dict[str, int], steps: int) -> None:
    assert Training(**settings).count(25) == steps


def test_no_folder_is_written_over_and_none_is_left_half_written(model: Model, tiny_task: Task, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (full, tmp_path / "file"):
        with pytest.raises(SettingsError, match="is there and is not an empty folder: give a new one"):
            finetune(model, tiny_task, Training(), out=place)
    with pytest.raises(SettingsError, match="cannot be written"):
        finetune(model, tiny_task, Training(steps=1), out=tmp_path / "file" / "tuned")
    (tmp_path / "empty").mkdir()
    finetune(model, tiny_task, Training(steps=1), out=tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()

    def stop(done: int, total: int) -> None:
        if done / total > 0.85:
            raise Stopped

    with pytest.raises(Stopped):
        finetune(model, tiny_task, Training(steps=1), out=tmp_path / "stopped", progress=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "empty"}
    check_out(tmp_path / "new")


def test_models_and_tasks_that_cannot_be_trained_are_refused(
    folder: Path, model: Model, tiny_task: Task, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        SettingsError, match=r"the loss is \w+ at step \d+ with a learning rate of 1e\+30: give a lower"
    ):
        finetune(model, tiny_task, Training(learning_rate=1e30, epochs=3), out=out)
    with pytest.raises(SettingsError, match=r"loaded in torch.bfloat16: load it in float32"):
        finetune(load(str(folder), dtype="bfloat16", device="cpu"), tiny_task, Training(), out=out)
    with pytest.raises(ModelError, match="loaded in the folded basis: load it in the raw one"):
        finetune(load(str(folder), basis="folded", dtype="float32", device="cpu"), tiny_task, Training(), out=out)
    with pytest.raises(TaskError, match="train split of tiny is empty"):
        finetune(model, replace(tiny_task, train=()), Training(), out=out)
    assert not out.exists()


def test_files_that_changed_meanwhile_are_refused(arch: str, tiny_task: Task, tmp_path: Path) -> None:
    loaded = load(str(tiny.save(arch, tmp_path / "model")), dtype="float32", device="cpu")
    other = tiny.architecture(arch)
    with torch.no_grad():
        next(iter(other.parameters())).add_(1)
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="have changed since it was loaded: load it again"):
        finetune(loaded, tiny_task, Training(), out=tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["bloom", "falcon-grouped", "gemma2", "gpt-j", "gpt-neo", "neox", "opt", "phi", "phi3"]
)
def test_every_family_can_be_trained(family: str, tiny_task: Task, tmp_path: Path) -> None:
    """The first step's loss is that of the evaluation, and the folder opens as the same architecture."""
    loaded = load(str(FAMILIES[family].save(tmp_path / "model")), dtype="float32", device="cpu")
    found = finetune(loaded, tiny_task, Training(steps=2, batch_size=99, learning_rate=1e-3), out=tmp_path / "tuned")
    assert found.losses[0] == pytest.approx(found.before["train"].mean_loss.value, rel=1e-4)
    assert found.losses[1] < found.losses[0]
    assert load(str(tmp_path / "tuned"), dtype="float32", device="cpu").architecture == loaded.architecture
    assert loaded.current_digest() == loaded.digest
