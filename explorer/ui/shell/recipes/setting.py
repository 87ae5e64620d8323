"""What recipes share: model, task, examples and mask, as options of a command and as the first lines of Python."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.core.config import settings
from explorer.core.keys import Kind
from explorer.masks.mask import Mode
from explorer.tasks import TASKS, Task, framing_words
from explorer.tasks.template import as_typed


@dataclass(frozen=True)
class Recipe:
    """One action of a page as text that gives the same numbers where it is run.

    Attributes:
        command: None where the command line has none for it.
    """

    title: str
    python: str
    command: str | None = None


@dataclass(frozen=True)
class Setting:
    """What an action works on.

    Attributes:
        split, limit: the examples that masks are measured on; None for all.
        mask: file of the current mask, None for the unpruned model.
        mode, gain: how values are removed, or how much of them stays, in masks that the action makes.
        kinds, per_head: the set M of scored matrices; no kinds for all.
        scorer, score_limit: what scores them, and on how many train examples; None for all.
        data: folder of the task's data, if it was given one.
        text: whether the model can read the plain text that comes with the explorer.
    """

    model: str
    basis: str
    task: Task
    split: str
    limit: int | None
    mask: Path | None
    mode: Mode = "freeze"
    gain: float = 0.0
    kinds: tuple[Kind, ...] = (Kind.Q, Kind.K)
    per_head: bool = True
    scorer: str = "gradient"
    score_limit: int | None = None
    data: Path | None = None
    text: bool = True

    @property
    def train(self) -> int:
        """Number of train examples that scores and exact effects come from."""
        return len(self.task.split("train", self.score_limit))

    # ---- as a command

    def command(self, *words: str | Iterable[str]) -> str:
        """`eigenprune ... --json`; a group of words may be given together."""
        flat = [one for word in words for one in ([word] if isinstance(word, str) else word)]
        loading = [one for name, value in self._loading() for one in (f"--{name}", value)]
        return shlex.join(["eigenprune", *flat, *loading, "--json"])

    def model_words(self) -> list[str]:
        """The model."""
        return ["--model", self.model]

    def task_words(self) -> list[str]:
        """The task, and how it is asked."""
        template = self.task.template and as_typed(self.task.template)
        words = [*self.asking_words(), *(["--template", template] if template else [])]
        metric = ["--metric", self.task.metric] if self.task.metric != "auto" else []
        return ["--task", self.task.name, *words, *metric]

    def asking_words(self) -> Iterator[str]:
        """Seed, shots, data and framing of the task; for commands that take several tasks, which have no template."""
        yield from self.seed_words()
        if self.task.shots:
            yield from ("--shots", str(self.task.shots))
        if self.data is not None:
            yield from ("--data", str(self.data))
        yield from framing_words(self.task.framing)

    def seed_words(self) -> list[str]:
        """The seed of the splits."""
        return ["--seed", str(self.task.seed)] if self.task.seed else []

    def examples_words(self, limit: int | None) -> list[str]:
        """The examples that a mask is measured on."""
        return ["--split", self.split, *limit_words(limit)]

    def seedless_task_words(self) -> list[str]:
        """The task without its seed, for a command that is given one anyway."""
        words = self.task_words()
        if "--seed" in words:
            at = words.index("--seed")
            del words[at : at + 2]
        return words

    def mask_words(self) -> list[str]:
        """The current mask's file."""
        return [] if self.mask is None else ["--mask", str(self.mask)]

    def matrices_words(self, kinds: tuple[Kind, ...] | None = None) -> list[str]:
        """The scored matrices, or those of other kinds."""
        chosen = self.kinds if kinds is None else kinds
        return ["--kinds", ",".join(chosen) or "all", *([] if self.per_head else ["--stacked"])]

    def scoring_words(self) -> list[str]:
        """How matrices are scored."""
        return ["--scorer", self.scorer, "--mode", self.mode, *self.score_words()]

    def gain_words(self) -> list[str]:
        """How much stays of the values of a mask that is made."""
        return ["--gain", repr(self.gain)] if self.gain else []

    def score_words(self) -> list[str]:
        """The train examples that scores and exact effects come from."""
        return limit_words(self.score_limit)

    # ---- as Python

    def opening(self, names: str, *further: str, task: bool = True) -> list[str]:
        """The first lines: imports of `names` from the package and `further` ones; `view`, `svds` and `task`."""
        wanted = sorted({*names.split(), "default_cache", "load", *(("load_task",) if task else ())}, key=_isort)
        lines = ["from pathlib import Path", ""] if "load_mask" in wanted or self.data is not None else []
        framed = ["from explorer.tasks import Framing"] if task and self.task.framing.given else []
        lines += [f"from explorer import {', '.join(wanted)}", *sorted({*further, *framed}), ""]
        lines.append(f"view, svds = {self.load_call(self.model)}.view(), default_cache()")
        return [*lines, f"task = {self.task_call()}"] if task else lines

    def load_call(self, model: str) -> str:
        """`load(...)`: a model, in the basis, dtype and place of the setting's own."""
        return f"load({', '.join([repr(model), *(f'{name}={value!r}' for name, value in self._loading())])})"

    def task_call(self) -> str:
        """`load_task(...)`."""
        asked = [repr(self.task.name)]
        if self.task.seed:
            asked.append(f"seed={self.task.seed}")
        if self.task.shots:
            asked.append(f"shots={self.task.shots}")
        if self.task.template:
            asked.append(f"template={self.task.template!r}")
        if self.data is not None:
            asked.append(f"data=Path({str(self.data)!r})")
        asked += self.framing_arguments()
        if self.task.metric != "auto":
            asked.append(f"metric={self.task.metric!r}")
        return f"load_task({', '.join(asked)})"

    def framing_arguments(self) -> list[str]:
        """The argument of `load_task` that says what stands around the prompts, unless it is as usual."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.task.framing.given.items())
        return [f"framing=Framing({given})"] if given else []

    def other_task_call(self, name: str, data: Path | None) -> str:
        """`load_task(...)` of another task in its own words; `data` is the folder of its data, if it needs some."""
        seed = f", seed={self.task.seed}" if self.task.seed else ""
        folder = f", data=Path({str(data)!r})" if data is not None and needs_data(name) else ""
        return f"load_task({name!r}{seed}{folder})"

    def where(self) -> str:
        """The examples that a mask is measured on, as arguments."""
        return f"{self.split!r}" + limit_argument(self.limit)

    def keys_call(self, kinds: tuple[Kind, ...] | None = None, further: str = "") -> str:
        """`matrices(view, ...)`: the scored matrices, or those of other kinds."""
        chosen = self.kinds if kinds is None else kinds
        which = f", {kinds_list(chosen)}" if chosen else ""
        return f"matrices(view{which}{further}{'' if self.per_head else ', per_head=False'})"

    def scoring_arguments(self) -> str:
        """How matrices are scored, as arguments."""
        seed = f", seed={self.task.seed}" if self.task.seed else ""
        return f"scorer={self.scorer!r}, mode={self.mode!r}{limit_argument(self.score_limit)}{seed}"

    def gain_argument(self) -> str:
        """How much stays of the values of a mask that is made, as an argument."""
        return f", gain={self.gain!r}" if self.gain else ""

    def _loading(self) -> Iterator[tuple[str, str]]:
        """What `load` does not take by default."""
        if self.basis != "raw":
            yield "basis", self.basis
        if settings().dtype != "float32":
            yield "dtype", settings().dtype
        if settings().device != "cpu":
            yield "device", settings().device


def limit_words(limit: int | None) -> list[str]:
    """`--limit N`, unless all are meant."""
    return [] if limit is None else ["--limit", str(limit)]


def limit_argument(limit: int | None) -> str:
    """`, limit=N`, unless all are meant."""
    return "" if limit is None else f", limit={limit}"


def kinds_list(kinds: tuple[Kind, ...]) -> str:
    """`[Kind.Q, Kind.K]`."""
    return f"[{', '.join(f'Kind.{kind.name}' for kind in kinds)}]"


def mask_call(path: Path) -> str:
    """`load_mask(Path(...))`."""
    return f"load_mask(Path({str(path)!r}))"


def code(*lines: str | Iterable[str]) -> str:
    """Lines of Python as one text; a group of lines may be given together."""
    return "\n".join(one for line in lines for one in ([line] if isinstance(line, str) else line))


def needs_data(name: str) -> bool:
    """Whether it is a built-in task whose data comes from elsewhere."""
    return name in TASKS and TASKS[name].needs_data


def is_file_task(task: Task) -> bool:
    """Whether the task came from a file, which a command needs beside it."""
    return task.name not in TASKS


def _isort(name: str) -> tuple[int, str]:
    """Constants, classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
