"""What commands do before their work: check options that need no model, then load the model."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from explorer.actions.choices import (
    open_ended,
)
from explorer.cli.console import notice, working
from explorer.core.config import DTYPES, settings
from explorer.core.errors import SettingsError
from explorer.tasks import Framing, Task, as_framing, framing_words, load_task
from explorer.tasks.template import typed

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.models import View

BASES = ("raw", "folded")


class Identity(TypedDict):
    """The part of a report that says which model it is about, and in which type that was loaded."""

    model: str
    model_digest: str
    basis: str
    dtype: str


def open_view(model: str, dtype: str | None, device: str | None, basis: str = "raw") -> View:
    """Load a model in a basis and take a view of it."""
    if basis not in BASES:
        raise SettingsError(f"--basis {basis[:40]!r} is not known: choose one of {', '.join(BASES)}.")
    if dtype is not None and dtype not in DTYPES:
        raise SettingsError(f"--dtype {dtype[:40]!r} is not known: choose one of {', '.join(DTYPES)}.")
    with working(f"Loading {model}") as progress:
        from explorer.models import load

        return load(model, basis=basis, dtype=dtype, device=device, progress=progress).view()


def open_for(
    tasks: Sequence[Task], split: str, limit: int | None, model: str, dtype: str | None, device: str | None,
    basis: str = "raw",
) -> View:  # fmt: skip
    """`open_view` for tasks: says where the model's tokenizer does not know the words of their prompts."""
    view = open_view(model, dtype, device, basis)
    from explorer.measure.tokens import task_notice

    for task in tasks:
        if (sentence := task_notice(view.model.tokenizer, task, task.split(split, limit))) is not None:
            notice(sentence)
    return view


def identity(view: View) -> Identity:
    """Which model a report is about."""
    model = view.model
    return {"model": model.source.name, "model_digest": model.digest, "basis": model.basis, "dtype": model.dtype}


def own_mask(view: View, mask: Mask) -> Mask:
    """A mask that was read from a file, with the identity of the view's model; says where a file leaves that open.

    Raises MaskError for another model's mask.
    """
    from explorer.masks.belonging import adopted
    from explorer.spectra.cache import default_cache

    return adopted(view, mask, default_cache(notice), notice)


def seed_or_default(seed: int | None) -> int:
    """The seed that was given, else the settings'."""
    return settings().seed if seed is None else seed


@dataclass(frozen=True)
class Asked:
    """How a task is asked: the options --shots to --system; --metric says what counts as right."""

    shots: int = 0
    template: str | None = None
    data: Path | None = None
    bos: str = "auto"
    chat: bool = False
    system: str | None = None
    metric: str = "auto"

    @property
    def framing(self) -> Framing:
        """What stands around the prompts; raises SettingsError for what does not go together."""
        return as_framing(self.bos, chat=self.chat, system=self.system)

    def carried(self) -> list[str]:
        """The options that a later command needs to ask the same."""
        named = (("--template", self.template), ("--data", None if self.data is None else str(self.data)))
        words = [word for name, value in named if value is not None for word in (name, value)]
        words += ["--shots", str(self.shots)] if self.shots else []
        words += [] if self.metric == "auto" else ["--metric", self.metric]
        return [*words, *framing_words(self.framing)]


ZERO_SHOT = Asked()


class Wording(TypedDict):
    """The part of a report that says what was asked: equal digests ask the same."""

    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None


def wording(task: Task) -> Wording:
    """What was asked."""
    around = task.framing
    return {
        "task_digest": task.digest,
        "shots": task.shots,
        "template": task.template,
        "bos": around.bos,
        "chat": around.chat,
        "system": around.system,
    }


def read_task(name: str, seed: int, asked: Asked = ZERO_SHOT) -> Task:
    """Load a task as it is to be asked; a backslash and an n in a template are a line break."""
    template = None if asked.template is None else typed(asked.template)
    options: dict[str, Any] = {"data": asked.data, "framing": asked.framing, "metric": asked.metric}
    with working(f"Reading {name}") as progress:
        task = load_task(name, seed, shots=asked.shots, template=template, progress=progress, **options)
    for sentence in task.notices:
        notice(f"{task.name}: {sentence}")
    return task


def open_task(name: str, seed: int, split: str, limit: int | None, asked: Asked = ZERO_SHOT) -> Task:
    """Load a task and make sure that the split can be used, before anything slow begins."""
    task = read_task(name, seed, asked)
    task.split(split, limit)
    if some := open_ended(task, split):
        notice(some)
    if seen := task.seen(split):
        notice(f"{seen:,} of {len(task.split(split)):,} {split} examples of {task.name} are in an earlier split, too.")
    return task


def at_most(text: str, total: int) -> int:
    """A number of values from `40`, or from a share of all of them such as `0.02`."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    share = "." in text and 0 < number < 1
    if not share and not (number.is_integer() and 1 <= number <= total):
        raise SettingsError(f"--max-removed {text[:40]!r}: give a number from 1 to {total:,}, or a share such as 0.02.")
    return max(1, int(number * total)) if share else int(number)


def command(*words: str) -> str:
    """A command line that can be copied into a shell."""
    return shlex.join(("eigenprune", *words))
