"""`label` and `labels`: what people call singular directions, kept in the workspace by model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.choices import ModelChoice, OfModel, identity
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import MatrixError, SettingsError
from explorer.core.keys import MatrixKey

if TYPE_CHECKING:
    from explorer.masks.labels import DirectionLabel


@dataclass(frozen=True)
class LabelsResult(OfModel):
    """Labels of singular directions: matrix, index, label, note."""

    labels: Sequence[DirectionLabel]


@dataclass(frozen=True, kw_only=True)
class LabelDirection(Request):
    """Give a singular direction a label, a note, or both; they go with every mask file that is exported.

    Labels are kept in the workspace for this very model. Without --label and --note the direction's label is shown.

    Example: `eigenprune label L0.K.H1 0 --model bundled --label "which table" --note "reads the first factor"`
    """

    command: ClassVar[str] = "label"

    matrix: Annotated[str, Arg("Such as L0.K.H1 (a head), L0.K (stacked) or L0.OUT.", positional=True)]
    index: Annotated[int, Arg("Which singular value, 0 for the largest.", least=0, positional=True)]
    model: ModelChoice
    label: Annotated[str | None, Arg("A few words, 60 letters at most.")] = None
    note: Annotated[str | None, Arg("As long as it takes, up to 2,000 letters.")] = None
    remove: Annotated[bool, Arg("Forget its label and its note.")] = False

    def run(self, tools: Tools = ALONE) -> LabelsResult:
        """Keep it, forget it, or look.

        Raises:
            ExplorerError: a model, matrix or value that cannot be had, a label that cannot be kept, or options that do
                not go together.
        """
        key = MatrixKey.parse(self.matrix)
        if self.remove and not (self.label is None and self.note is None):
            raise SettingsError("--remove forgets a label: leave --label and --note out.")
        view = self.model.open(tools)
        from explorer.masks.labels import LabelBook, label_of
        from explorer.models.matrices import check, shape

        check(view, key)
        rank = min(shape(view, key))
        if self.index >= rank:
            raise MatrixError(f"{key} has singular values 0 to {rank - 1}, not {self.index}: choose another.")
        book, place = LabelBook.default(view.model.digest), (str(key), self.index)
        before = book.every().get(place)
        if self.remove:
            book.remove(place)
        elif self.label is not None or self.note is not None:
            label = (before.label if before else "") if self.label is None else self.label
            note = (before.note if before else "") if self.note is None else self.note
            book.put(label_of(*place, label=label, note=note))
        now = book.every().get(place)
        return LabelsResult(**identity(view), labels=[] if now is None else [now])


@dataclass(frozen=True, kw_only=True)
class ListLabels(Request):
    """List the labels of a model's singular directions.

    Example: `eigenprune labels --model bundled`
    """

    command: ClassVar[str] = "labels"

    model: ModelChoice

    def run(self, tools: Tools = ALONE) -> LabelsResult:
        """Look.

        Raises:
            ExplorerError: a model that cannot be had, or a file of labels that cannot be read.
        """
        view = self.model.open(tools)
        from explorer.masks.labels import LabelBook

        return LabelsResult(**identity(view), labels=list(LabelBook.default(view.model.digest).every().values()))
