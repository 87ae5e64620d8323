"""`export`: a pruned model, or what is changed in it, as a folder for others' programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    NO_TASKS,
    Limit,
    ModelChoice,
    OfModel,
    TasksChoice,
    identity,
    own_mask,
    read_mask,
)
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import TaskError

if TYPE_CHECKING:
    from explorer.export.run import Exported
    from explorer.export.verify import Verification
    from explorer.masks.mask import Mask
    from explorer.models import View
    from explorer.tasks import Task

FORMATS_HELP = (
    "checkpoint (the pruned model as a Hugging Face folder), lora (the change as a PEFT adapter), hooks (a short "
    "Python file that puts the change onto a model in memory), dataset (scores, exact effects and the removed "
    "directions as parquet), gguf (the pruned model as one file for llama.cpp)."
)


@dataclass(frozen=True)
class ExportResult(OfModel):
    """An exported folder, which was read again by the program that it is for.

    Attributes:
        format: `checkpoint`, `lora`, ...
        out: the folder.
        size: bytes of all its files; `files` has those of each.
        mode, removed, mask_digest: of the mask that was exported.
        readers: who can read it.
        notes: what was done beside, in sentences.
        checked: by which `client` it was read again, in which `ways`, on how many `prompts` and `positions` (answer
            tokens); the largest `difference` of a log-probability from the pruned model, and the `limit`, nats.
        tasks: per task the figures on its test split, `masked` and `baseline`.
    """

    format: str
    out: str
    size: int
    files: Mapping[str, int]
    mode: str
    removed: int
    mask_digest: str
    readers: str
    notes: Sequence[str]
    checked: Verification
    tasks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ExportMask(Request):
    """Write a pruned model as a folder that other programs read, with a README.

    The folder appears only when the program that it is for has read it again, in a process of its own, and says the
    same as the pruned model on the task's prompts: log-probabilities within 1e-4 nats in float32 and float64, 0.05 in
    float16, 0.4 in bfloat16; ten times that for llama.cpp. The task is the mask's own unless --task is given.

    Example: `eigenprune export mask.json --model bundled --as checkpoint --out pruned`
    """

    command: ClassVar[str] = "export"

    mask: Annotated[Path, Arg("Mask file.", positional=True)]
    model: ModelChoice
    format: Annotated[str, Arg(FORMATS_HELP, name="as")]
    out: Annotated[Path, Arg("New folder.")]
    tasks: TasksChoice = NO_TASKS
    zero: Annotated[bool, Arg("Put nothing in the place of removed values, even if the mask freezes means.")] = False
    reader: Annotated[str, Arg("Who must be able to read a lora: any (PEFT) or vllm.", name="for")] = "any"
    force: Annotated[bool, Arg("Replace the export that is in the folder.")] = False
    limit: Limit = None

    def run(self, tools: Tools = ALONE) -> ExportResult:
        """Write it, and have it read again.

        Raises:
            ExplorerError: a model, mask or task that cannot be had, a folder that is taken, a change that the format
                cannot hold, or a client that is not there or reads it otherwise.
        """
        from explorer.export import FORMATS
        from explorer.export.base import Order
        from explorer.export.run import check_place, client_of, export, form_of
        from explorer.spectra.cache import default_cache

        mask = read_mask(self.mask)
        tasks = tuple(self._tasks(mask, tools))
        order = Order(
            self.format, self.out, tasks, force=self.force, reader=self.reader, limit=self.limit, zero=self.zero
        )
        client_of(form_of(order, FORMATS))
        check_place(self.out, force=self.force)
        view = self.model.open_for_all(tasks, "test", self.limit, tools=tools)
        mask = own_mask(view, mask, tools)
        with tools.working("Exporting") as progress:
            made = export(view, mask, default_cache(tools.notice), order=order, forms=FORMATS, progress=progress)
        return export_result(view, made)

    def _tasks(self, mask: Mask, tools: Tools) -> list[Task]:
        if self.tasks.task:
            return self.tasks.open("test", self.limit, tools)
        from explorer.masks.belonging import source_task

        task = source_task(mask)
        if task is None:
            raise TaskError(
                "the mask does not say on which task it was made: give a --task, on whose prompts to check."
            )
        task.split("test", self.limit)
        return [task]


def export_result(view: View, made: Exported) -> ExportResult:
    """The result of an export, as the command reports it."""
    from explorer.export.run import figures

    return ExportResult(
        **identity(view),
        format=made.sort,
        out=str(made.folder),
        size=made.size,
        files=made.files,
        mode=made.mask.mode,
        removed=len(made.mask),
        mask_digest=made.mask.digest,
        readers=made.readers,
        notes=made.notes,
        checked=made.checked,
        tasks=[figures(task, comparison) for task, comparison in made.measured],
    )
