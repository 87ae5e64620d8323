"""The report of a search as it is shown and written: what is in it, checked field by field when it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from explorer.core.errors import SettingsError
from explorer.core.files import ordinary, write_text
from explorer.core.written import Count, JsonRecord
from explorer.masks.damage import DamageFigures
from explorer.masks.mask import Mask, Mode
from explorer.measure.figures import ComparisonFigures, Figures, SeenFigures
from explorer.search.control_runs import ControlFigures
from explorer.search.controls import EARLIER, RANDOM_SEARCH, by_today
from explorer.search.evidence.figures import EvidenceFigures

FORMAT: Literal["eigenprune-search-report"] = "eigenprune-search-report"
VERSION: Literal[1] = 1
NAME = "report.json"
MAX_BYTES = 200_000_000

Controls = Annotated[Mapping[str, ControlFigures], AfterValidator(by_today)]
StrategyName = Annotated[str, AfterValidator(lambda name: RANDOM_SEARCH if name == EARLIER else name)]


@dataclass(frozen=True, kw_only=True)
class PointFigures(JsonRecord):
    """One measured mask on the way; `growth` of the perplexity on plain text, if the budget sets a limit to it."""

    removed: Count
    train: Figures | None
    validation: Figures
    growth: Annotated[float, Field(allow_inf_nan=False)] | None = None


@dataclass(frozen=True, kw_only=True)
class SearchSettings(JsonRecord):
    """What the search was told; `options` are those of the strategy that are not its defaults.

    `compute` is the type in which proposals were computed; what stands in the report was measured in `dtype`.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    scorer: str
    matrices: tuple[str, ...]
    limit: int | None
    max_removed: Count
    max_seconds: float | None
    max_growth: float | None = None
    text_blocks: Count
    control_draws: Count
    device: str
    dtype: str
    compute: str | None = None


@dataclass(frozen=True, kw_only=True)
class SearchFile(JsonRecord):
    """The report of a search; see `explorer.search.report.Report`.

    `train` and `validation` are those of the chosen mask, `curve` has all that were measured. `growth` is the chosen
    mask's, of the perplexity on the search's own text, if there was a limit to it. `seen` counts the test
    examples that the search has seen; files of before do not have it. `evidence` is what was asked for beyond controls.
    """

    format: Literal["eigenprune-search-report"] = FORMAT
    schema_version: Literal[1] = VERSION
    model: str
    model_digest: str
    basis: Literal["raw", "folded", "delta"]
    dtype: str | None = None
    task: str
    task_digest: str | None
    shots: int | None
    template: str | None
    bos: str = "auto"
    chat: bool = False
    system: str | None = None
    splits: str = "published"  # those of files of before
    hold_out: str | None = None
    wordings: int = 1
    only: str | None = None
    metric: str | None = None
    strategy: StrategyName
    seed: int
    mode: Mode
    removed: Count
    mask_digest: str
    train: Figures
    validation: Figures
    test: Figures
    test_limit: int | None
    baseline: Figures
    comparison: ComparisonFigures
    seen: SeenFigures | None = None
    controls: Controls
    curve: Annotated[tuple[PointFigures, ...], Field(min_length=1)]
    damage: DamageFigures | None
    evidence: EvidenceFigures | None = None
    stopped: Annotated[str, Field(pattern="^(time|stopped)?$")]
    growth: Annotated[float, Field(allow_inf_nan=False)] | None = None
    settings: SearchSettings
    forwards: Count
    seconds: Annotated[float, Field(ge=0)]
    versions: Mapping[str, str]
    mask: Mask

    @property
    def beyond(self) -> bool:
        """Whether the mask lets the perplexity grow more than was allowed, since none that helps does not."""
        limit = self.settings.max_growth
        return bool(self.removed) and limit is not None and self.growth is not None and self.growth > limit

    def __post_init__(self) -> None:
        if (self.mask.digest, len(self.mask)) != (self.mask_digest, self.removed):
            raise ValueError("the mask is not the one that the report is about")

    def save(self, folder: Path) -> Path:
        """Write the report into a folder, which is made; returns the file.

        Raises:
            SettingsError: the folder cannot be written.
        """
        path = folder / NAME
        try:
            write_text(path, self.to_json())
        except OSError as error:
            raise SettingsError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
        return path


_READ = TypeAdapter(SearchFile)


def load_report(path: Path) -> SearchFile:
    """Read a report file, or the one in a folder.

    Raises:
        SettingsError: it cannot be read, or is not such a file; says where.
    """
    file = path / NAME if path.is_dir() else path
    try:
        if ordinary(file).stat().st_size > MAX_BYTES:
            raise SettingsError(f"{file} has more than {MAX_BYTES:,} bytes: reports are smaller; is it another file?")
        return _READ.validate_json(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}): give a report.json, or its folder.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(one) for one in first["loc"])[:80] or "its beginning"
        extra = first["type"] == "unexpected_keyword_argument"
        what = "Extra inputs are not permitted" if extra else first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{file} is not a usable search report: {what} (at {where}); make it again.") from None
