"""`finetune`: train a copy of a model on a task before it is pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from explorer.actions.choices import OfTask, RawModelChoice, TaskChoice, asked
from explorer.actions.request import ALONE, Arg, Request, Tools


@dataclass(frozen=True)
class FinetuneResult(OfTask):
    """A fine-tuned copy in the folder `out`.

    Attributes:
        epochs: null if `steps` was given.
        before, after: figures per split, on the same examples.
        change: paired, per split.
        losses: one per step.
        digest: of the fine-tuned weights.
    """

    seed: int
    optimizer: str
    learning_rate: float
    batch_size: int
    epochs: int | None
    steps: int
    limit: int | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    change: Mapping[str, Any]
    losses: Sequence[float]
    digest: str
    out: str


@dataclass(frozen=True, kw_only=True)
class Finetune(Request):
    """Train a copy of a model on a task's train split, and write it as a Hugging Face folder for --model.

    Optional, before pruning; the model itself stays as it is. The paper's released code always does this first, with
    `--optimizer adam --lr 0.01 --epochs 1`.

    Example: `eigenprune finetune --model bundled --task int-mult --epochs 2 --lr 1e-4 --out tuned`
    """

    command: ClassVar[str] = "finetune"

    model: RawModelChoice
    task: TaskChoice
    out: Annotated[Path, Arg("New or empty folder for the fine-tuned model.")]
    epochs: Annotated[int | None, Arg("Passes over the train split; 1 if not given.")] = None
    steps: Annotated[int | None, Arg("Optimizer steps, instead of --epochs.")] = None
    lr: Annotated[float, Arg("Learning rate.")] = 1e-5
    batch_size: Annotated[int, Arg("Examples in a step.")] = 8
    optimizer: Annotated[str, Arg("adamw or adam.")] = "adamw"
    limit: Annotated[int | None, Arg("Use only the first N examples of every split.", least=1)] = None

    def run(self, tools: Tools = ALONE) -> FinetuneResult:
        """Train, and measure before and after.

        Raises:
            ExplorerError: a model, task or setting that cannot be used, or a folder that is not new or empty.
        """
        task = self.task.open("train", self.limit, tools)
        from explorer.experiments.finetune import Training, check_out, finetune

        seed = self.task.seed_number
        training = Training(
            self.epochs,
            self.steps,
            self.lr,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            seed=seed,
            limit=self.limit,
        )
        check_out(self.out)
        view = self.model.open_for(task, "train", self.limit, tools=tools)
        with tools.working("Fine-tuning") as progress:
            found = finetune(view.model, task, training, out=self.out, progress=progress)
        return FinetuneResult(**asked(view, task) | found.as_dict(), out=str(self.out))
