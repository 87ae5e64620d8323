"""The report of a search as a file: what is in it, checked field by field when it is read back.

Numbers that JSON cannot hold (the standard error of one example) are null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from explorer.core.errors import SettingsError
from explorer.core.files import ordinary, write_text
from explorer.core.finite import plain
from explorer.masks.mask import Mask, Mode
from explorer.search.controls import EARLIER, RANDOM_SEARCH, by_today
from explorer.tasks.metric import Metric, Rule, accuracy_name

FORMAT: Literal["eigenprune-search-report"] = "eigenprune-search-report"
VERSION: Literal[1] = 1
NAME = "report.json"
MAX_BYTES = 200_000_000

T = TypeVar("T")
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Listed = Annotated[tuple[T, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]
Interval = Annotated[
    tuple[Number | None, Number | None],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Accuracy(_Part):
    """A share of examples with its 95 % Wilson interval."""

    n: int = Field(ge=1)
    accuracy: Share
    accuracy_interval: Interval


class Figures(Accuracy):
    """One evaluation; losses in nats per example.

    `accuracy` is by the `metric`; without one, in files of earlier versions, it is exact match, and the fields from
    `exact` on are missing. `choice` is by rule (`sum`, `mean`); it, `guessing` and `majority` are None without choices.
    """

    metric: Metric = "exact"
    loss: Number | None
    loss_stderr: Number | None
    not_finite: int = Field(default=0, ge=0, exclude_if=lambda count: not count)
    exact: Accuracy | None = None
    choice: dict[Rule, Accuracy] | None = None
    guessing: Share | None = None
    majority: Share | None = None

    @property
    def accuracy_name(self) -> str:
        """`accuracy`, with what it counts where there are choices."""
        return accuracy_name(self.metric, choices=self.choice is not None)


class Point(_Part):
    """One measured mask on the way; `growth` of the perplexity on plain text, if the budget sets a limit to it."""

    removed: Count
    train: Figures | None
    validation: Figures
    growth: Number | None = None


class Percentile(_Part):
    """Percent of the draws that the mask beats, ties counted half."""

    accuracy: float = Field(ge=0, le=100)
    loss: float = Field(ge=0, le=100)


class Control(_Part):
    """One control on the test split: one entry per draw."""

    draws: int = Field(ge=1)
    accuracy: Listed[Share]
    loss: Listed[Number | None]
    percentile: Percentile

    @model_validator(mode="after")
    def _one_per_draw(self) -> Control:
        if not self.draws == len(self.accuracy) == len(self.loss):
            raise ValueError(f"{self.draws} draws have {len(self.accuracy)} accuracies and {len(self.loss)} losses")
        return self


class McNemarTest(_Part):
    """McNemar's exact test."""

    repaired: Count
    broken: Count
    p: Share


class LossChange(_Part):
    """Paired change of the mean loss, with its 95 % bootstrap interval."""

    value: Number | None
    stderr: Number | None
    interval: Interval


class Compared(_Part):
    """The mask beside the unpruned model on the same test examples."""

    accuracy_test: McNemarTest
    loss_change: LossChange


class TaskFigures(Figures):
    """Figures of a task that may have distractors."""

    lead: dict[str, Any] | None


class TaskDamage(Compared):
    """What the mask does to another task."""

    task: str
    task_digest: str
    shots: Count
    bos: str = "auto"
    chat: bool = False
    system: str | None = None
    split: str
    masked: TaskFigures
    baseline: TaskFigures
    choice_test: dict[str, McNemarTest] | None


class TextFigures(_Part):
    """Perplexity of plain text."""

    perplexity: Number | None
    loss: Number | None
    loss_stderr: Number | None
    tokens: Count
    windows: Count
    window: Count
    stride: Count


class Growth(_Part):
    """Growth of the perplexity: 0.1 = up by 10 %."""

    value: Number | None
    interval: Interval


class TextDamage(_Part):
    """What the mask does to plain text."""

    masked: TextFigures
    baseline: TextFigures
    growth: Growth


class Damage(_Part):
    """What the mask costs elsewhere."""

    mask_digest: str
    removed: Count
    gain: float = 0.0
    tasks: Listed[TaskDamage]
    text: TextDamage | None


class Settings(_Part):
    """What the search was told; `options` are those of the strategy that are not its defaults."""

    options: dict[str, Any] = {}
    scorer: str
    matrices: Listed[str]
    limit: int | None
    max_removed: Count
    max_seconds: float | None
    max_growth: float | None = None
    text_blocks: Count
    control_draws: Count
    device: str
    dtype: str


class SearchFile(_Part):
    """A report file; see `explorer.search.report.Report`.

    `train` and `validation` are those of the chosen mask, `curve` has all that were measured.
    """

    format: Literal["eigenprune-search-report"] = FORMAT
    schema_version: Literal[1] = VERSION
    model: str
    model_digest: str
    basis: Literal["raw", "folded"]
    dtype: str | None = None
    task: str
    task_digest: str | None
    shots: int | None
    template: str | None
    bos: str = "auto"
    chat: bool = False
    system: str | None = None
    metric: str | None = None
    strategy: str
    seed: int
    mode: Mode
    removed: Count
    mask_digest: str
    train: Figures
    validation: Figures
    test: Figures
    test_limit: int | None
    baseline: Figures
    comparison: Compared
    controls: dict[str, Control]
    curve: Annotated[Listed[Point], Field(min_length=1)]
    damage: Damage | None
    stopped: Literal["", "time", "stopped"]
    settings: Settings
    forwards: Count
    seconds: float = Field(ge=0)
    versions: dict[str, str]
    mask: Mask

    @field_validator("controls", mode="before")
    @classmethod
    def _renamed(cls, controls: Any) -> Any:
        return by_today(controls)

    @field_validator("strategy")
    @classmethod
    def _renamed_strategy(cls, strategy: str) -> str:
        return RANDOM_SEARCH if strategy == EARLIER else strategy

    @model_validator(mode="after")
    def _about_one_mask(self) -> SearchFile:
        if (self.mask.digest, len(self.mask)) != (self.mask_digest, self.removed):
            raise ValueError("the mask is not the one that the report is about")
        return self

    def save(self, folder: Path) -> Path:
        """Write the report into a folder, which is made; returns the file.

        Raises:
            SettingsError: the folder cannot be written.
        """
        path = folder / NAME
        try:
            write_text(path, self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise SettingsError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
        return path


def as_file(document: Mapping[str, Any]) -> SearchFile:
    """The file's content from `Report.document()`."""
    return SearchFile.model_validate_json(json.dumps(plain(document)))


def load_report(path: Path) -> SearchFile:
    """Read a report file, or the one in a folder.

    Raises:
        SettingsError: it cannot be read, or is not such a file; says where.
    """
    file = path / NAME if path.is_dir() else path
    try:
        if ordinary(file).stat().st_size > MAX_BYTES:
            raise SettingsError(f"{file} has more than {MAX_BYTES:,} bytes: reports are smaller; is it another file?")
        return SearchFile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}): give a report.json, or its folder.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(one) for one in first["loc"])[:80] or "its beginning"
        what = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{file} is not a usable search report: {what} (at {where}); make it again.") from None
