"""A recipe: one cell of a table of results, as a TOML file.

    name = "gpt2-int-mult-as-released"      # lower case; the result file is called so
    seed = 0
    control_draws = 20                      # of each random control, and which controls:
    controls = ["random-per-matrix", "smallest", "largest"]
    note = "..."                            # for the reader

    [model]     name, source, revision (hub ids only), label, dtype
    [task]      name, template, limit, validation_limit, test_limit (first N examples), reference_shots,
                bos (auto, always or never), chat (true), system (its system message),
                metric (auto, exact, choice, choice-mean; auto is exact as released, and beside published accuracies)
    [strategy]  name = "as-released": kinds, fraction, batch_size, answer_token
                name = a search: kinds, max_removed, seconds, max_growth, mode, scorer, stacked
    [finetune]  before pruning: epochs, learning_rate, batch_size, optimizer
    [published] before, after, tolerance (percent, percentage points), n
    [truth]     values = [{ matrix = "L0.K.H3", index = 0 }], the harmful values in the basis of the strategy, if known

Everything that is not named has a default, or may be left out, except name, [model], [task] and [strategy].
"""

from __future__ import annotations

import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from explorer.core.errors import MatrixError, SettingsError
from explorer.core.files import digest, ordinary
from explorer.core.keys import Kind, MatrixKey, parse_kinds
from explorer.search.controls import EARLIER, PER_MATRIX
from explorer.tasks import TASKS, AskedMetric, Cases, Framing, Metric, Task, load_task
from explorer.tasks.cases import HeldOut, SplitRule
from explorer.tasks.framing import Bos

AS_RELEASED = "as-released"
MAX_BYTES = 100_000
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=1)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,79}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelPart(_Frozen):
    """Which model: a short name to choose it by, where it comes from, and the hub's revision (a commit, or `main`)."""

    name: Slug
    source: str = Field(min_length=1, max_length=500)
    revision: str | None = Field(default=None, pattern=r"^[\w][\w./-]{0,199}$")
    label: str = Field(default="", max_length=80)
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    @property
    def located(self) -> str:
        """The model with its revision, as `explorer.models.load` takes it."""
        return self.source if self.revision is None else f"{self.source}@{self.revision}"


class TaskPart(_Frozen):
    """Which task, and how many examples of each split; with `reference_shots`, K shots are measured unpruned, too."""

    name: str
    template: str | None = None
    limit: Count | None = None
    validation_limit: Count | None = None
    test_limit: Count | None = None
    reference_shots: int = Field(default=0, ge=0, le=64)
    # Left out where they are as usual: a recipe that does not name them has the digest that it always had.
    bos: Bos = Field(default="auto", exclude_if=lambda bos: bos == "auto")
    chat: bool = Field(default=False, exclude_if=lambda chat: not chat)
    system: str | None = Field(default=None, exclude_if=lambda system: system is None)
    metric: AskedMetric = "auto"
    splits: SplitRule = "twins"
    hold_out: HeldOut | None = Field(default=None, exclude_if=lambda hold_out: hold_out is None)
    wordings: int = Field(default=1, ge=1, exclude_if=lambda wordings: wordings == 1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(f"{name[:40]!r} is not a built-in task: choose one of {', '.join(TASKS)}")
        return name

    @model_validator(mode="after")
    def _framed(self) -> Self:
        if self.splits == "published" and self.hold_out is not None:
            raise ValueError("the published splits hold nothing out: leave out task.hold_out or task.splits")
        if self.system is not None and not self.chat:
            raise ValueError("task.system is the system message of a chat: add chat = true")
        return self

    @property
    def framing(self) -> Framing:
        """What stands around the prompts."""
        return Framing(self.bos, self.chat, self.system)

    @property
    def cases(self) -> Cases:
        """Which of its cases are for searching."""
        return Cases(self.splits, self.hold_out, self.wordings)


class _Kinds(_Frozen):
    kinds: str = "K"

    @field_validator("kinds")
    @classmethod
    def _readable(cls, text: str) -> str:
        try:
            parse_kinds(text)
        except MatrixError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return text

    @property
    def chosen(self) -> tuple[Kind, ...] | None:
        """The kinds; None for every kind that the model has."""
        return None if self.kinds.strip().lower() == "all" else parse_kinds(self.kinds)


class Released(_Kinds):
    """The paper's strategy as its released code does it (`explorer.search.released`)."""

    name: Literal["as-released"]
    fraction: float = Field(default=0.2, gt=0, le=1)
    batch_size: Count = 8
    answer_token: int = Field(default=0, ge=0)


class Searched(_Kinds):
    """A strategy of `explorer.search.SEARCHES`; `max_removed` is a number of values, or a share of all below 1."""

    name: Slug
    max_removed: int | float = 0.02
    seconds: Annotated[float, Field(gt=0)] | None = None
    max_growth: Annotated[float, Field(ge=0)] | None = None
    mode: Literal["freeze", "zero"] = "freeze"
    scorer: Slug = "gradient"
    stacked: bool = False

    @field_validator("max_removed")
    @classmethod
    def _number_or_share(cls, given: int | float) -> int | float:
        if not (given >= 1 if isinstance(given, int) else 0 < given < 1):
            raise ValueError(f"{given} is neither a whole number of 1 or more nor a share such as 0.02")
        return given

    def at_most(self, total: int) -> int:
        """How many of `total` values may be removed."""
        wanted = self.max_removed if isinstance(self.max_removed, int) else int(self.max_removed * total)
        return min(max(1, wanted), total)


def _which(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "released" if name == AS_RELEASED else "searched"


Strategy = Annotated[Annotated[Released, Tag("released")] | Annotated[Searched, Tag("searched")], Discriminator(_which)]


class FinetunePart(_Frozen):
    """Training before pruning, on the train split; as released: one pass of Adam at 0.01."""

    epochs: Count = 1
    learning_rate: float = Field(default=0.01, gt=0)
    batch_size: Count = 8
    optimizer: Literal["adam", "adamw"] = "adam"


class Published(_Frozen):
    """What a table says: test accuracy in percent before and after, on n examples; tolerance in percentage points."""

    before: Percent
    after: Percent
    n: Count
    tolerance: Percent


class Place(_Frozen):
    """One singular value."""

    matrix: str
    index: int = Field(ge=0)

    @field_validator("matrix")
    @classmethod
    def _canonical(cls, text: str) -> str:
        try:
            return str(MatrixKey.parse(text))
        except MatrixError as error:
            raise ValueError(str(error).rstrip(".")) from None


class Truth(_Frozen):
    """The values that are known to harm the task."""

    values: Annotated[tuple[Place, ...], Field(strict=False, min_length=1)]


class SuiteRecipe(_Frozen):
    """One cell; see the module docstring for the file."""

    name: Slug
    note: str = ""
    seed: int = Field(default=0, ge=0)
    control_draws: int = Field(default=20, ge=0, le=1000)
    controls: Annotated[tuple[Slug, ...], Field(strict=False)] = (PER_MATRIX, "smallest", "largest")
    model: ModelPart
    task: TaskPart
    strategy: Strategy
    finetune: FinetunePart | None = None
    published: Published | None = None
    truth: Truth | None = None

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        if self.released and self.task.metric not in ("auto", "exact"):
            raise ValueError("as released, what counts is exact match: leave out task.metric")
        stacked = isinstance(self.strategy, Searched) and self.strategy.stacked
        if self.truth and stacked:
            raise ValueError("truth.values names heads, so strategy.stacked must be false")
        return self

    @property
    def released(self) -> bool:
        """Whether the cell is the released code's method."""
        return isinstance(self.strategy, Released)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all that decides what is measured: not the name, the labels, the note, or what was published."""
        decides = self.model_dump(mode="json", exclude={"name": True, "note": True, "published": True, "truth": True})
        for words in ("name", "label"):
            del decides["model"][words]
        # What was measured under the earlier name stays: in recipes it always was this control.
        decides["controls"] = [EARLIER if name == PER_MATRIX else name for name in decides["controls"]]
        if self.task.metric == "auto":  # as recipes were before they had one
            del decides["task"]["metric"]
        if self.task.splits == "published" or not TASKS[self.task.name].symmetric:  # as all recipes were before
            del decides["task"]["splits"]
        return digest([json.dumps(decides, sort_keys=True).encode()])

    def load_task(self, data: Path | None, *, shots: int = 0) -> Task:
        """The whole task; `data` is used by tasks that need it. Raises TaskError."""
        folder, how = data if TASKS[self.task.name].needs_data else None, self.task
        return load_task(
            how.name, self.seed, shots=shots, template=how.template, data=folder, framing=how.framing,
            metric=how.metric, cases=how.cases,
        )  # fmt: skip

    def metric_of(self, task: Task) -> Metric:
        """What counts as right on the test split of its task: exact match, as in a published table, if there is one."""
        like_published = self.released or (self.published is not None and self.task.metric == "auto")
        return "exact" if like_published else task.metric_of("test")


def read_recipe(path: Path) -> SuiteRecipe:
    """Read one recipe.

    Raises:
        SettingsError: it cannot be read, is not TOML, or a field is missing, unknown or out of range; names both.
    """
    try:
        if ordinary(path).stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path} has {path.stat().st_size:,} bytes: a recipe has at most {MAX_BYTES:,}.")
        return SuiteRecipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): give a recipe or a folder of them.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML ({error}): a recipe is a TOML file in UTF-8.") from None
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error)}.") from None


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, with the field's name as it stands in the file."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    places = [str(part) for part in first["loc"] if part not in ("released", "searched", "int", "float")]
    what = first["msg"].removeprefix("Value error, ")
    words = {"extra_forbidden": "is not a field of recipes", "missing": "is missing"}
    said = words.get(first["type"])
    where = ".".join(places)[:80]
    if said is not None:
        return f"{where} {said}"
    return f"{where}: {what[:1].lower() + what[1:] if what.startswith('Input') else what}" if where else what
