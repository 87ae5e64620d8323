"""The fields that many requests share: which model, which task and how it is asked, which matrices and how scored."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from explorer.actions import names
from explorer.actions.request import ALONE, Arg, Result, Tools
from explorer.core.config import DTYPES, settings
from explorer.core.errors import MaskError, SettingsError
from explorer.core.keys import Kind, parse_kinds
from explorer.tasks import Asking, Cases, Framing, Task, as_cases, as_framing, load_task, takes_data
from explorer.tasks.template import typed

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.masks.mask import Mode as RemovalMode
    from explorer.models import View

BASES = ("raw", "folded", "delta")
LAYERS = re.compile(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?", re.ASCII)  # one layer, or the first and the last of some
MODEL_HELP = (
    "bundled, smollm2-135m, gemma3-270m, a hub id (org/name, org/name@revision), a model folder or a .gguf file."
)
TASK_HELP = (
    "A task of `tasks list`, the path of a .jsonl or .csv file, relation:FILE.csv (columns input,output), or a task of "
    "the lm-evaluation-harness: lm-eval:NAME or the path of its .yaml file."
)

Dtype = Annotated[str | None, Arg("float32, float64, bfloat16 or float16; EIGENPRUNE_DTYPE or float32 if not given.")]
Device = Annotated[
    str | None, Arg("Such as cpu or cuda, or auto for all GPUs together; EIGENPRUNE_DEVICE or cpu if not given.")
]
Cluster = Annotated[
    str | None,
    Arg(
        "Where independent pieces are measured: local or local:N (so many workers on this machine) or ray://HOST:PORT; "
        "EIGENPRUNE_CLUSTER, or else this process, if not given."
    ),
]
Limit = Annotated[int | None, Arg("Use only the first N examples of the split.", least=1)]
Split = Annotated[str, Arg("train, validation or test.")]
MaskFile = Annotated[Path, Arg("Mask file to write; a file that is there is replaced.")]
Mode = Annotated[str, Arg("What replaces a removed part: freeze (its mean over train tokens) or zero (nothing).")]
Gain = Annotated[float, Arg("Share of each value that stays, from 0 (removed) to below 1 (scaled).")]
_ABOUT_SCORERS = {
    "gradient": "first order",
    "hybrid": "the same, corrected by measured effects",
    "curvature": "with a second-order term",
    "integrated": "share in removing all",
    "exact": "one pass per value: slow",
    "as-released": "the paper's code",
    "magnitude": "no gradients",
    "energy": "no gradients",
    "random": "control",
}
_SCORERS = [f"{one} ({_ABOUT_SCORERS[one]})" if one in _ABOUT_SCORERS else one for one in get_args(names.Scorer)]
Scorer = Annotated[str, Arg(f"{', '.join(_SCORERS)}.")]
Metric = Annotated[
    str,
    Arg(
        "What counts as right: exact (every answer token), choice (the answer has the largest log-probability of its "
        "choices), choice-mean (the largest per token); auto: choice where all examples of a split have choices."
    ),
]
Kinds = Annotated[str, Arg("Some of Q, K, V, O, IN, GATE, OUT with commas between (letters also without: QK), or all.")]
DataFolder = Annotated[
    Path | None,
    Arg(
        "Folder of SuperGLUE's JSON lines for cb, copa and rte (from the hub if not given), or of relations (those "
        "of `tasks fetch` if not given)."
    ),
]
Stacked = Annotated[bool, Arg("Take attention matrices whole instead of per head.")]


@dataclass(frozen=True)
class RawModelChoice:
    """A model as it is in its checkpoint, and how it is loaded."""

    model: Annotated[str, Arg(MODEL_HELP)]
    dtype: Dtype = None
    device: Device = None
    adapter: Annotated[
        Path | None,
        Arg("Folder of a LoRA adapter of PEFT, which is merged into the model; its base must be the model."),
    ] = None

    @property
    def name(self) -> str:
        """What it is called, with its adapter; raises ModelError for two adapters."""
        if self.adapter is None:
            return self.model
        from explorer.models import adapted

        return adapted(self.model, self.adapter)

    def open(self, tools: Tools = ALONE, *, basis: str = "raw", against: str | None = None) -> View:
        """A view of it.

        Raises:
            ModelError: it cannot be loaded.
            SettingsError: an unknown basis or type, or a base model with another basis than `delta`.
        """
        if basis not in BASES:
            raise SettingsError(f"--basis {basis[:40]!r} is not known: choose one of {', '.join(BASES)}.")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise SettingsError(f"--dtype {self.dtype[:40]!r} is not known: choose one of {', '.join(DTYPES)}.")
        if tools.view is not None:
            return tools.view
        if (basis == "delta") != (against is not None):
            raise SettingsError("--basis delta and --delta-base, the model that is subtracted, go together: give both.")
        with tools.working(f"Loading {self.model}") as progress:
            from explorer.models import load

            return load(
                self.name, basis=basis, against=against, dtype=self.dtype, device=self.device, progress=progress
            ).view()

    def open_for(self, task: Task, split: str, limit: int | None, tools: Tools = ALONE) -> View:
        """A view, and a notice where its tokenizer does not know the words of the task's prompts."""
        return self.open_for_all([task], split, limit, tools=tools)

    def open_for_all(self, tasks: Sequence[Task], split: str, limit: int | None, tools: Tools = ALONE) -> View:
        """The same for several tasks."""
        view = self.open(tools)
        from explorer.measure.tokens import task_notice

        for task in tasks:
            if (sentence := task_notice(view.model.tokenizer, task, task.split(split, limit))) is not None:
                tools.notice(sentence)
        return view


@dataclass(frozen=True)
class ModelChoice(RawModelChoice):
    """A model, how it is loaded, and in which basis its matrices are."""

    basis: Annotated[
        str,
        Arg(
            "raw (weights as in the checkpoint), folded (layer norms folded in: other singular values) or delta (what "
            "a fine-tune or an adapter changed: the difference from --delta-base)."
        ),
    ] = "raw"
    against: Annotated[
        str | None,
        Arg("With --basis delta: the model that was fine-tuned or adapted.", name="delta-base", also="against"),
    ] = None

    def open(self, tools: Tools = ALONE, *, basis: str | None = None, against: str | None = None) -> View:
        """A view of it, in its basis or another one."""
        if basis is not None:
            return super().open(tools, basis=basis, against=against)
        return super().open(tools, basis=self.basis, against=self.against)


@dataclass(frozen=True)
class FramingChoice:
    """What stands around a prompt."""

    bos: Annotated[
        str,
        Arg(
            "BOS token in front: auto (if the tokenizer has one and the task wants one; in a chat as the template "
            "says), always, never, or tokenizer (if it puts one there by itself)."
        ),
    ] = "auto"
    chat: Annotated[
        bool,
        Arg(
            "Ask through the tokenizer's chat template: the prompt is the user's turn, the answer, without blanks in "
            "front, the beginning of the assistant's; shots are earlier turns."
        ),
    ] = False
    system: Annotated[str | None, Arg("System message of the chat; the template's if not given.")] = None

    @property
    def framing(self) -> Framing:
        """What stands around the prompts; raises SettingsError for what does not go together."""
        return as_framing(self.bos, chat=self.chat, system=self.system)


UNFRAMED = FramingChoice()


@dataclass(frozen=True)
class CasesChoice:
    """Which cases of a task are for searching and which for testing."""

    splits: Annotated[
        str,
        Arg(
            "twins (cases that share an answer by symmetry, such as 3 * 11 and 11 * 3, are in one split) or published "
            "(every ordered pair for itself, as in the paper: for reproductions).",
            also="split",
        ),
    ] = "twins"
    hold_out: Annotated[
        str | None,
        Arg(
            "What test cases have that no train or validation case has: operands (numbers, names, inputs), answers, or "
            "wordings (templates that no search uses)."
        ),
    ] = None
    wordings: Annotated[
        int, Arg("Ask the cases in the first N of the task's wordings for searching, in turn.", least=1)
    ] = 1
    only: Annotated[
        str | None,
        Arg(
            "One slice of the task, in every split: COLUMN=VALUE, COLUMN=LOW..HIGH or COLUMN~TEXT. Columns are those "
            "of `slices`: answer, length, what the template is filled with, further columns of a file."
        ),
    ] = None

    @property
    def cases(self) -> Cases:
        """Which cases they are; raises SettingsError for what does not go together."""
        return as_cases(self.splits, self.hold_out, self.wordings, only=self.only)


USUAL_CHOICE = CasesChoice()


@dataclass(frozen=True)
class WordingChoice:
    """How a task is asked."""

    shots: Annotated[int, Arg("Put K solved train examples, the same for all, in front of every prompt.", least=0)] = 0
    template: Annotated[
        str | None,
        Arg(
            "Another prompt with the placeholders that `tasks list` shows ({prompt} for a file, {input} for a "
            "relation); \\n breaks the line."
        ),
    ] = None
    data: DataFolder = None
    which: CasesChoice = USUAL_CHOICE
    around: FramingChoice = UNFRAMED
    seed: Annotated[
        int | None, Arg("Seed of the splits and of random choices; EIGENPRUNE_SEED or 0 if not given.", least=0)
    ] = None

    @property
    def seed_number(self) -> int:
        """The seed that was given, else the settings'."""
        return settings().seed if self.seed is None else self.seed

    def read_as(self, name: str, tools: Tools, metric: str = "auto") -> Task:
        """Load a task; a backslash and an n in a template are a line break."""
        template = None if self.template is None else typed(self.template)
        asked: Asking = {
            "shots": self.shots, "template": template, "framing": self.around.framing, "metric": metric,
            "cases": self.which.cases,
        }  # fmt: skip
        with tools.working(f"Reading {name}") as progress:
            task = load_task(name, self.seed_number, data=self.data, progress=progress, **asked)
        for sentence in task.notices:
            tools.notice(f"{task.name}: {sentence}")
        return task


@dataclass(frozen=True, kw_only=True)
class TaskChoice(WordingChoice):
    """A task, how it is asked, and what counts as right."""

    task: Annotated[str, Arg(TASK_HELP)]
    metric: Metric = "auto"

    def open(self, split: str, limit: int | None, tools: Tools = ALONE) -> Task:
        """Load the task and make sure that the split can be used, before anything slow begins."""
        task = tools.task or self.read_as(self.task, tools, self.metric)
        return usable(task, split, limit, tools=tools)

    def others(self, names: tuple[str, ...], seed: int | None = None) -> TasksChoice:
        """Other tasks, asked as this one is, in their own words; split by a seed of their own if one is given."""
        return TasksChoice(
            task=names, shots=self.shots, data=self.data, which=CasesChoice(self.which.splits), around=self.around,
            seed=self.seed_number if seed is None else seed,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TasksChoice(WordingChoice):
    """Any number of tasks, all asked in one way; the data folder goes to those that need one."""

    task: Annotated[tuple[str, ...], Arg(f"{TASK_HELP[:-1]}; repeatable.")] = ()
    metric: Metric = "auto"

    def open(self, split: str, limit: int | None, tools: Tools = ALONE) -> list[Task]:
        """Load them and make sure that the split can be used, before anything slow begins."""
        return [self.open_one(name, split, limit, tools=tools) for name in self.task]

    def open_one(self, name: str, split: str, limit: int | None, tools: Tools = ALONE) -> Task:
        """Another task, asked in the same way."""
        choice = self if takes_data(name) else replace(self, data=None)
        return usable(choice.read_as(name, tools, self.metric), split, limit, tools=tools)


NO_TASKS = TasksChoice()


@dataclass(frozen=True, kw_only=True)
class TaskArgument(WordingChoice):
    """A task, given without an option's name, and how it is asked."""

    task: Annotated[str, Arg(TASK_HELP, positional=True)]

    def read(self, tools: Tools = ALONE) -> Task:
        """Load the task."""
        return tools.task or self.read_as(self.task, tools)


def usable(task: Task, split: str, limit: int | None, tools: Tools = ALONE) -> Task:
    """The task; notices say what is odd about a split that is to be used.

    Raises:
        TaskError: the split is empty, or has fewer examples.
    """
    task.split(split, limit)
    if some := open_ended(task, split):
        tools.notice(some)
    if seen := task.seen(split):
        tools.notice(
            f"{seen:,} of {len(task.split(split)):,} {split} examples of {task.name} are in an earlier split, too."
        )
    return task


def open_ended(task: Task, split: str) -> str | None:
    """The sentence about a split of which only some examples have choices, unless the metric was asked for."""
    examples = task.split(split)
    count = sum(bool(one.choices) for one in examples)
    if task.metric != "auto" or count in (0, len(examples)):
        return None
    return (
        f"{count:,} of {len(examples):,} {split} examples of {task.name} have choices: accuracy is exact match for all."
    )


def read_mask(path: Path) -> Mask:
    """The mask of a file; what mask files are read with takes a while to import.

    Raises:
        MaskError: it is not a mask file.
    """
    from explorer.masks.mask import load_mask

    return load_mask(path)


def own_mask(view: View, mask: Mask, tools: Tools = ALONE) -> Mask:
    """A mask that was read from a file, with the identity of the view's model; says where a file leaves that open.

    Raises:
        MaskError: it is another model's.
    """
    from explorer.masks.belonging import adopted
    from explorer.spectra.cache import default_cache

    return adopted(view, mask, default_cache(tools.notice), notify=tools.notice)


def kinds_or_all(text: str) -> tuple[Kind, ...] | None:
    """Kinds from `Q,K`; None, every kind that the model has, from `all`."""
    return None if text.strip().lower() == "all" else parse_kinds(text)


def removal_mode(text: str) -> RemovalMode:
    """A removal mode.

    Raises:
        SettingsError: there is no such mode.
    """
    from explorer.masks.mask import Mode

    modes: dict[str, RemovalMode] = {mode: mode for mode in get_args(Mode)}
    if text not in modes:
        raise SettingsError(f"{text[:40]!r} is not a removal mode: choose one of {', '.join(modes)}.")
    return modes[text]


@dataclass(frozen=True)
class OfModel(Result):
    """The part of a result that says which model it is about, and in which type that was loaded."""

    model: str
    model_digest: str
    basis: str
    dtype: str


def identity(view: View) -> dict[str, Any]:
    """The fields of `OfModel`."""
    model = view.model
    return {"model": model.source.name, "model_digest": model.digest, "basis": model.basis, "dtype": model.dtype}


@dataclass(frozen=True)
class OfTask(OfModel):
    """The part of a result that says what was asked, too: equal digests of tasks ask the same."""

    task: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    splits: str
    hold_out: str | None
    wordings: int
    only: str | None


def asked(view: View, task: Task) -> dict[str, Any]:
    """The fields of `OfTask`."""
    return {**identity(view), "task": task.name, **wording(task)}


def wording(task: Task) -> dict[str, Any]:
    """What was asked."""
    around = task.framing
    return {
        "task_digest": task.digest,
        "shots": task.shots,
        "template": task.template,
        "bos": around.bos,
        "chat": around.chat,
        "system": around.system,
        **task.cases.as_dict(),
    }


def layers_or_all(text: str | None) -> tuple[int, ...] | None:
    """Layers from `0-3,7`; None, all of them, from None.

    Raises:
        SettingsError: it cannot be read.
    """
    if text is None:
        return None
    found: set[int] = set()
    for piece in text.split(","):
        numbers = LAYERS.fullmatch(piece.strip())
        first, last = (0, -1) if numbers is None else (int(numbers[1]), int(numbers[2] or numbers[1]))
        if last < first:
            raise SettingsError(f"--layers {text[:40]!r} cannot be read: give layers such as 0-3,7.")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def checked_gain(gain: float) -> float:
    """A gain.

    Raises:
        SettingsError: it is not one.
    """
    if not 0 <= gain < 1:
        raise SettingsError(f"--gain {gain:g}: give the share of each value that stays, from 0 to below 1.")
    return gain


def refuse_unwritable(path: Path) -> None:
    """Raise MaskError unless a file can be put at `path`; an ordinary file that is there already may be replaced."""
    if path.exists() and not path.is_file():
        raise MaskError(f"{path} is there and is not a file: give --out the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise MaskError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
