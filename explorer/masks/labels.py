"""Labels and notes on singular directions: what people found out about them, kept in the workspace by model.

One JSON file per model, found by the model's digest, so that a label is never shown on other weights. A mask file that
is exported holds the labels of its values (`Mask.labels`); where it is imported they are taken over, but a label of
one's own stays. Files are written whole or not at all; sessions that change one at the same time wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from explorer.core.config import check_writable, settings
from explorer.core.errors import MaskError
from explorer.core.files import ordinary, write_text
from explorer.core.keys import MatrixKey
from explorer.masks.places import MatrixName

MAX_LABEL, MAX_NOTE, MAX_BYTES = 60, 2_000, 20_000_000
LOCK_SECONDS = 20.0
Place = tuple[str, int]  # matrix and index


class DirectionLabel(BaseModel):
    """What a singular direction is called, and a note on it; at least one of the two.

    Attributes:
        matrix, index: the direction.
        label: a few words, in one line.
        note: as long as it takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    matrix: MatrixName
    index: int = Field(ge=0)
    label: str = Field(default="", max_length=MAX_LABEL)
    note: str = Field(default="", max_length=MAX_NOTE)

    @field_validator("label")
    @classmethod
    def _in_one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @field_validator("note")
    @classmethod
    def _stripped(cls, text: str) -> str:
        return text.strip()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.label or self.note):
            raise ValueError("a label of no words says nothing")
        return self

    @property
    def place(self) -> Place:
        """Matrix and index."""
        return self.matrix, self.index


class _Book(BaseModel):
    """What a file of labels holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["eigenprune-labels"] = "eigenprune-labels"
    schema_version: Literal[1] = 1
    model: str
    labels: list[DirectionLabel] = Field(default_factory=list)


def label_of(matrix: str, index: int, label: str, note: str = "") -> DirectionLabel:
    """A label; raises MaskError, with the reason, for one that cannot be kept."""
    try:
        return DirectionLabel(matrix=matrix, index=index, label=label, note=note)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the label"
        raise MaskError(f"{where}: {first['msg'].removeprefix('Value error, ')}; write it otherwise.") from None


class LabelBook:
    """The labels of one model.

    Every method raises MaskError, with the reason, where the file cannot be read or written.

    Args:
        folder: of the files; made when the first label is kept.
        model: the model's digest.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.model = model
        self.path = folder / f"{model.removeprefix('sha256:')[:40]}.json"

    @classmethod
    def default(cls, model: str) -> Self:
        """That of the workspace folder."""
        return cls(settings().workspace_dir / "labels", model)

    def every(self) -> dict[Place, DirectionLabel]:
        """All labels by matrix and index, in canonical order."""
        if not self.path.is_file():
            return {}
        try:
            if ordinary(self.path).stat().st_size > MAX_BYTES:
                raise MaskError(f"{self.path} is larger than {MAX_BYTES:,} bytes: move it elsewhere.")
            book = _Book.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise MaskError(f"{self.path} is no usable file of labels ({first['msg']}): move it elsewhere.") from None
        except OSError as error:
            raise self._refused(error) from None
        return {one.place: one for one in book.labels if book.model == self.model}

    def put(self, label: DirectionLabel) -> None:
        """Keep a label, in the place of the direction's earlier one."""
        with self._changing() as labels:
            labels[label.place] = label

    def remove(self, place: Place) -> bool:
        """Forget a direction's label; whether it had one."""
        with self._changing() as labels:
            return labels.pop(place, None) is not None

    def take_over(self, others: Iterable[DirectionLabel]) -> tuple[DirectionLabel, ...]:
        """Keep the labels of directions that have none yet; gives those that were left out, since another one stays."""
        others = tuple(others)
        if not others:
            return ()
        with self._changing() as labels:
            own = dict(labels)
            labels.update({one.place: one for one in others if one.place not in own})
        return tuple(one for one in others if own.get(one.place, one) != one)

    @contextmanager
    def _changing(self) -> Iterator[dict[Place, DirectionLabel]]:
        """The labels, to be changed; they are kept at the end if they were."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.parent / ".lock", timeout=LOCK_SECONDS)
            lock.acquire()
        except OSError as error:  # filelock's Timeout is one, too
            raise self._refused(error) from None
        try:
            labels = self.every()
            before = dict(labels)
            yield labels
            if labels != before:
                self._write(labels)
        finally:
            lock.release()

    def _write(self, labels: Mapping[Place, DirectionLabel]) -> None:
        check_writable(MaskError, "Labelling")
        ordered = sorted(labels.values(), key=lambda one: (MatrixKey.parse(one.matrix), one.index))
        try:
            write_text(self.path, _Book(model=self.model, labels=ordered).model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> MaskError:
        return MaskError(f"{self.path} cannot be used ({error.strerror or error}): check the workspace folder.")
