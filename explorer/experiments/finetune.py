"""Fine-tune a copy of a model on a task, as an optional step before pruning; the model itself never changes.

1. Read the weights again from the model's files: what is trained shares nothing with the loaded model.
2. Each pass visits the train examples in an order of its own, by seed, `batch_size` at a time. A step lowers the mean
   over its examples of the loss summed over their answer tokens, with Adam or AdamW in torch's settings (AdamW: weight
   decay 0.01). There is no dropout, so equal seeds give equal weights on one machine.
3. The result is written beside `out` as an ordinary Hugging Face folder, opened and measured from there, and only then
   moved into place: `out` is whole or absent.

The paper's third row is GPT-2 fine-tuned and then pruned. The released code always fine-tunes first: one pass with
`optimizer="adam", learning_rate=0.01`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from explorer.core.errors import SettingsError
from explorer.core.files import new_folder, write_json
from explorer.core.progress import Progress, part, track
from explorer.measure.batches import Batch, batches
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.metrics import losses
from explorer.models import Model, View, load, read_again
from explorer.tasks import SPLITS, Example, Task

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
RECORD = "eigenprune-finetune.json"


@dataclass(frozen=True)
class Training:
    """How a model is fine-tuned.

    Attributes:
        epochs: passes over the train examples; one if `steps` is not given either.
        steps: optimizer steps, instead of epochs.
        learning_rate: of the optimizer.
        batch_size: examples in a step; the last of a pass may have fewer.
        optimizer: `adamw` or `adam`.
        seed: of the order of the examples.
        limit: only the first so many examples of every split; None for all.

    Raises:
        SettingsError: both epochs and steps, an unknown optimizer, or a number out of range.
    """

    epochs: int | None = None
    steps: int | None = None
    learning_rate: float = 1e-5
    batch_size: int = 8
    optimizer: str = "adamw"
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise SettingsError(f"{self.epochs} epochs and {self.steps} steps were asked for: give one of the two.")
        for name in ("epochs", "steps", "batch_size", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}: give 1 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"the learning rate is {self.learning_rate}: give a number above 0, such as 1e-5.")
        if self.optimizer not in OPTIMIZERS:
            raise SettingsError(f"{self.optimizer[:40]!r} is not an optimizer: choose one of {', '.join(OPTIMIZERS)}.")

    def count(self, examples: int) -> int:
        """Number of steps for so many train examples."""
        return self.steps or (self.epochs or 1) * math.ceil(examples / self.batch_size)


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model in its folder.

    Attributes:
        folder: where it is; opens like any model folder.
        digest: its identity.
        base_digest: that of the model that it was trained from.
        task: that it was trained on.
        losses: mean loss of every step's examples before that step, nats per example.
        before, after: the model and the fine-tuned one on the same examples, per split that has any.
    """

    folder: Path
    digest: str
    base_digest: str
    task: Task
    training: Training
    losses: tuple[float, ...]
    before: Mapping[str, Evaluation]
    after: Mapping[str, Evaluation]

    def as_dict(self) -> dict[str, Any]:
        """The figures for a report; what changed is paired, on the same examples."""
        return {
            "digest": self.digest,
            "task": self.task.name,
            "task_digest": self.task.digest,
            **asdict(self.training),
            "steps": len(self.losses),
            "epochs": None if self.training.steps else self.training.epochs or 1,
            "before": {split: one.as_dict() for split, one in self.before.items()},
            "after": {split: one.as_dict() for split, one in self.after.items()},
            "change": {split: _change(self.after[split], one) for split, one in self.before.items()},
            "losses": list(self.losses),
        }


def finetune(
    model: Model,
    task: Task,
    training: Training,
    *,
    out: Path,
    progress: Progress | None = None,
) -> FineTuned:
    """Train a copy of a model on a task's train split and write it into the folder `out`; see the module docstring.

    Raises:
        SettingsError: settings that cannot be used, an `out` that is not a new or empty folder, a model that is not in
            float32 or float64, or a loss that is no longer a number.
        ModelError: a folded model, or files that are gone or have changed.
        TaskError: a task without train examples, or one that this model cannot take.
    """
    limit = training.limit
    check_out(out)
    shared = model.bridge.original_model
    if shared.dtype not in (torch.float32, torch.float64):
        raise SettingsError(
            f"the model is loaded in {shared.dtype}: load it in float32, small steps are lost otherwise."
        )
    examples = task.split("train", limit)
    view = model.view()
    before = _measure(view, task, limit, progress=part(progress, 0.0, 0.1))
    trained, tokenizer = read_again(model)
    found = _train(trained, view, task, examples=examples, training=training, progress=part(progress, 0.1, 0.85))
    with _new_folder(out) as folder:
        trained.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del trained
        opened = load(str(folder), dtype=str(shared.dtype).removeprefix("torch."), device=str(shared.device))
        after = _measure(opened.view(), task, limit, progress=part(progress, 0.9, 1.0))
        result = FineTuned(
            out, opened.digest, model.digest, task=task, training=training, losses=found, before=before, after=after
        )
        origin = {"source": model.source.origin, "revision": model.source.revision, "model_digest": model.digest}
        write_json(folder / RECORD, {**origin, **result.as_dict()})
    return result


def check_out(out: Path) -> None:
    """Raise SettingsError unless `out` is an empty folder or not there yet."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise SettingsError(f"{out} is there and is not an empty folder: give a new one for the fine-tuned model.")


def _train(
    trained: Any, view: View, task: Task, examples: Sequence[Example], training: Training, progress: Progress | None
) -> tuple[float, ...]:
    """Step 2; the losses of the steps."""
    trained.requires_grad_(True)
    optimizer = OPTIMIZERS[training.optimizer](trained.parameters(), lr=training.learning_rate)  # type: ignore[call-arg]
    found: list[float] = []
    chosen = list(islice(_groups(examples, training), training.count(len(examples))))
    for group in track(chosen, progress):
        total = 0.0
        for batch in batches(view, task, group, batch_size=len(group)):
            with torch.enable_grad():
                loss = _losses(trained, batch).sum() / len(group)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not math.isfinite(total):
            raise SettingsError(
                f"the loss is {total} at step {len(found) + 1} with a learning rate of {training.learning_rate:g}: "
                "give a lower one."
            )
        found.append(total)
        optimizer.step()
        optimizer.zero_grad()
    return tuple(found)


def _groups(examples: Sequence[Example], training: Training) -> Iterator[list[Example]]:
    """The examples of one step after the other, for ever: each pass in an order of its own."""
    chance = random.Random(training.seed)
    order = list(examples)
    while True:
        chance.shuffle(order)
        for start in range(0, len(order), training.batch_size):
            yield order[start : start + training.batch_size]


def _losses(trained: Any, batch: Batch) -> Float[Tensor, " batch"]:
    """Loss of every example, summed over its answer tokens, by the Hugging Face model itself."""
    logits = trained(batch.tokens, use_cache=False, logits_to_keep=batch.keep).logits
    return losses(logits[batch.rows, batch.columns], batch)


def _measure(view: View, task: Task, limit: int | None, progress: Progress | None) -> dict[str, Evaluation]:
    """Every split that has examples, once."""
    splits = [split for split in SPLITS if getattr(task, split)]
    return {split: evaluate(view, task, split, limit=limit) for split in track(splits, progress)}


def _change(after: Evaluation, before: Evaluation) -> dict[str, Any]:
    change = Comparison(after, before)
    loss = change.loss_change
    return {
        "loss": {"value": loss.value, "stderr": loss.stderr, "interval": list(change.loss_interval())},
        "accuracy_test": vars(change.accuracy_test),
    }


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place on success and disappears on failure."""
    try:
        with new_folder(out) as folder:
            yield folder
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{out} cannot be written ({reason}): choose another place.") from None
