"""What the session asks, as requests: named by contents they are keys of jobs, named as a user would they are copied.

Requests of one page are made in its package, those of several pages here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from explorer.actions import (
    CasesChoice,
    Evaluate,
    FramingChoice,
    MeasureDamage,
    MeasureEffects,
    MeasureEvidence,
    ModelChoice,
    ReadActivations,
    Score,
    ShowSpectra,
    TaskChoice,
    TasksChoice,
)
from explorer.attribution.exact import Value
from explorer.core.config import settings
from explorer.core.keys import AnyKey
from explorer.masks.library import Library
from explorer.masks.mask import Mask
from explorer.search.evidence.choice import EvidenceChoice
from explorer.tasks import Example, Framing, Task
from explorer.tasks.template import as_typed
from explorer.ui.session.session import Bench


@dataclass(frozen=True)
class Setting:
    """What requests are about, and what they call it.

    Attributes:
        bench: what the session has chosen.
        model, task: the bench's.
        file: what a mask is called that removes something.
    """

    bench: Bench
    model: ModelChoice
    task: TaskChoice
    file: Callable[[Mask], Path]

    def mask(self, mask: Mask | None) -> Path | None:
        """A mask; None for one that removes nothing."""
        return self.file(mask) if mask is not None and len(mask) else None

    @property
    def tasks(self) -> TasksChoice:
        """The task, for what takes several."""
        return TasksChoice(**{**vars(self.task), "task": (self.task.task,)})

    @property
    def measured(self) -> dict[str, Any]:
        """The task and its examples that masks are measured on, as fields."""
        return {"task": self.task, "split": self.bench.split, "limit": self.bench.eval_limit}

    @property
    def scored(self) -> dict[str, Any]:
        """What is scored, and how, as fields."""
        bench = self.bench
        how = {"scorer": bench.scorer, "mode": bench.mode, "stacked": not bench.per_head, "limit": bench.score_limit}
        return {"model": self.model, "task": self.task, "kinds": ",".join(bench.kinds) or "all", **how}

    @property
    def train(self) -> int:
        """Number of train examples that scores and exact effects come from."""
        return len(self.bench.task.split("train", self.bench.score_limit))


def by_contents(bench: Bench) -> Setting:
    """For keys of jobs: models, tasks and masks are called by what they are."""
    return Setting(bench, ModelChoice(bench.model.as_loaded), TaskChoice(task=bench.task.digest), file=_digest)


def by_name(bench: Bench, data: Path | None = None) -> Setting:
    """To be copied: masks are files of the workspace, written where they are not there yet.

    Args:
        bench: what the session has chosen.
        data: folder of the task's data, if it was given one.
    """
    own, usual = settings(), {"dtype": "float32", "device": "cpu"}
    loaded = {name: getattr(own, name) for name, value in usual.items() if getattr(own, name) != value}
    model = ModelChoice(bench.model.source.name, **bench.model.as_asked, **loaded)
    return Setting(bench, model, task_choice(bench.task, data), file=Library.default().keep)


def task_choice(task: Task, data: Path | None = None) -> TaskChoice:
    """A task as it is asked; `data` is the folder that it was read from."""
    return TaskChoice(
        task=task.name, shots=task.shots, template=task.template and as_typed(task.template), data=data,
        which=CasesChoice(**task.cases.as_dict()), around=_framing(task.framing), seed=task.seed or None,
        metric=task.metric,
    )  # fmt: skip


def evaluate(setting: Setting, mask: Mask | None, controls: int = 0) -> Evaluate:
    """A mask on the bench's examples, with as many draws of the default control."""
    return Evaluate(model=setting.model, **setting.measured, mask=setting.mask(mask), controls=controls)


def score(setting: Setting, *, every: bool = False, bootstrap: int = 0, mask: Mask | None = None) -> Score:
    """Scores of the bench's kinds, or of every kind; at a mask if there is one."""
    fields = setting.scored | ({"kinds": "all"} if every else {})
    return Score(**fields, bootstrap=bootstrap, mask=setting.mask(mask))


def effects(setting: Setting, values: Iterable[Value], mask: Mask) -> MeasureEffects:
    """What flipping each value alone does to the train loss, from a mask on."""
    named = tuple(
        f"{key}:{','.join(str(index) for _, index in group)}" for key, group in groupby(values, lambda one: one[0])
    )
    return MeasureEffects(
        model=setting.model, task=setting.task, value=named, mask=setting.mask(mask), mode=mask.mode,
        limit=setting.bench.score_limit,
    )  # fmt: skip


def all_effects(setting: Setting, mask: Mask) -> MeasureEffects:
    """The same for every value of the bench's kinds, at once or with interruptions."""
    scored = setting.scored
    named = {name: scored[name] for name in ("model", "task", "kinds", "stacked", "limit")}
    return MeasureEffects(**named, every=True, mask=setting.mask(mask), mode=mask.mode)


def spectra(setting: Setting, keys: Iterable[AnyKey], **second: Any) -> ShowSpectra:
    """Singular values of matrices and products; `second` says which model is beside them, and how it is compared."""
    return ShowSpectra(model=setting.model, matrix=tuple(map(str, keys)), **second)


def read_prompt(setting: Setting, prompt: Example, mask: Mask, **shown: Any) -> ReadActivations:
    """The prompt of an example, with what is shown before it; `shown` says what else than the usual is looked at."""
    turns = tuple(text for turn in prompt.shown for text in turn)
    around = _framing(setting.bench.task.around)
    return ReadActivations(
        model=setting.model, prompt=prompt.prompt, mask=setting.mask(mask), around=around, turn=turns, **shown
    )


def damage(
    setting: Setting, mask: Mask, tasks: TasksChoice, *, limit: int | None, text: bool = True
) -> MeasureDamage | None:
    """What a mask does to tasks and, if the model reads it, to plain text; None where it removes nothing."""
    if not len(mask):
        return None
    return MeasureDamage(
        model=setting.model, mask=setting.file(mask), tasks=tasks, text=None if text else "none",
        split=setting.bench.split, limit=limit,
    )  # fmt: skip


def evidence(setting: Setting, mask: Mask, choice: EvidenceChoice, *, controls: int) -> MeasureEvidence:
    """What a claim about the mask needs, measured on the bench's examples."""
    return MeasureEvidence(
        model=setting.model, mask=setting.file(mask), task=setting.task, controls=controls,
        nulls=",".join(choice.nulls) or None, baselines=",".join(choice.baselines) or None, evidence=choice.parts,
        test_limit=setting.bench.eval_limit, limit=setting.bench.score_limit,
    )  # fmt: skip


def _framing(framing: Framing) -> FramingChoice:
    return FramingChoice(framing.bos, framing.chat, framing.system)


def _digest(mask: Mask) -> Path:
    return Path(mask.digest)
