"""What the page shows, as a command and as Python: text that gives the same numbers where it is run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.config import settings
from explorer.tasks import TASKS, Task


@dataclass(frozen=True)
class Recipe:
    """One measurement: which model, task and examples, and with which mask file.

    Attributes:
        mask: None for the unpruned model.
        data: folder of the task's data, if it was given one.
        text: whether the model can read the plain text that comes with the explorer.
    """

    model: str
    basis: str
    task: Task
    split: str
    limit: int | None
    mask: Path | None
    data: Path | None = None
    text: bool = True

    def evaluate_command(self) -> str:
        """`eigenprune eval ...`: accuracy and loss on the task."""
        mask = [] if self.mask is None else ["--mask", str(self.mask)]
        wording = ["--template", self.task.template.replace("\n", "\\n")] if self.task.template else []
        chosen = ["--model", self.model, "--task", self.task.name, *mask]
        return self._command("eval", *chosen, *self._examples(), *wording)

    def damage_command(self) -> str | None:
        """`eigenprune mask damage ...`: plain text and the task; None without a mask, or in the task's own words only.

        The command asks several tasks, so it takes no template.
        """
        if self.mask is None or self.task.template is not None:
            return None
        chosen = ["--model", self.model, "--mask", str(self.mask), "--task", self.task.name]
        text = [] if self.text else ["--text", "none"]
        return self._command("mask", "damage", *chosen, *text, *self._examples())

    def evaluate_python(self) -> str:
        """The same measurement in Python."""
        lines = [*self._opening("apply, default_cache, evaluate, load, load_mask, load_task")]
        where = f"{self.split!r}" + ("" if self.limit is None else f", limit={self.limit}")
        lines += ["", f"before = evaluate(view, task, {where})"]
        if self.mask is None:
            shown = "accuracy {before.accuracy:.1%}, loss {before.mean_loss.value:.3f} nats, n = {before.n}"
            return "\n".join([*lines, f'print(f"{shown}")'])
        lines += [
            f"apply(view, load_mask(Path({str(self.mask)!r})), svds)",
            f"after = evaluate(view, task, {where})",
            'for name, found in (("unpruned", before), ("with the mask", after)):',
            '    print(f"{name}: accuracy {found.accuracy:.1%}, loss {found.mean_loss.value:.3f} nats, n = {found.n}")',
        ]
        return "\n".join(lines)

    def damage_python(self) -> str | None:
        """What the mask does to plain text and to the task, in Python; None without a mask."""
        if self.mask is None:
            return None
        where = f"split={self.split!r}" + ("" if self.limit is None else f", limit={self.limit}")
        names = "damage, default_cache, load, load_mask, load_task"
        further = ("from explorer.perplexity import read_text",) if self.text else ()
        return "\n".join(
            [
                "import json",
                *self._opening(names, *further),
                f"mask = load_mask(Path({str(self.mask)!r}))",
                "",
                f"found = damage(view, mask, svds, [task], {'read_text()' if self.text else 'None'}, {where})",
                "print(json.dumps(found.as_dict(), indent=1))",
            ]
        )

    def _opening(self, names: str, *further: str) -> Iterator[str]:
        loaded = [repr(self.model), *(f"{name}={value!r}" for name, value in self._loading())]
        asked = [repr(self.task.name)]
        if self.task.seed:
            asked.append(f"seed={self.task.seed}")
        if self.task.shots:
            asked.append(f"shots={self.task.shots}")
        if self.task.template:
            asked.append(f"template={self.task.template!r}")
        if self.data is not None:
            asked.append(f"data=Path({str(self.data)!r})")
        yield "from pathlib import Path"
        yield ""
        yield f"from explorer import {names}"
        yield from further
        yield ""
        yield f"view, svds = load({', '.join(loaded)}).view(), default_cache()"
        yield f"task = load_task({', '.join(asked)})"

    def _loading(self) -> Iterator[tuple[str, str]]:
        """What `load` does not take by default."""
        if self.basis != "raw":
            yield "basis", self.basis
        if settings().dtype != "float32":
            yield "dtype", settings().dtype
        if settings().device != "cpu":
            yield "device", settings().device

    def _examples(self) -> Iterator[str]:
        yield from ("--split", self.split)
        if self.limit is not None:
            yield from ("--limit", str(self.limit))
        if self.task.seed:
            yield from ("--seed", str(self.task.seed))
        if self.task.shots:
            yield from ("--shots", str(self.task.shots))
        if self.data is not None:
            yield from ("--data", str(self.data))

    def _command(self, *words: str) -> str:
        loading = [word for name, value in self._loading() for word in (f"--{name}", value)]
        return shlex.join(["eigenprune", *words, *loading, "--json"])


def is_file_task(task: Task) -> bool:
    """Whether the task came from a file, which a command needs beside it."""
    return task.name not in TASKS
