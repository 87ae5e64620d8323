"""Masks: which singular values of which model are removed, and how; complete without the data they came from.

A mask with a `gain` above 0 is softer: its values are scaled to that share of themselves instead. A `Mask` is a frozen
value: every edit returns a new one. Its file is JSON (`format: "eigenprune-mask"`), described by
`assets/mask.schema.json`, and is refused when it is malformed or belongs to another model.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from explorer.core.errors import MaskError
from explorer.core.files import digest, ordinary, repeated_key, write_text
from explorer.core.keys import MatrixKey
from explorer.masks.gain import state_of
from explorer.masks.labels import DirectionLabel
from explorer.masks.places import MatrixName
from explorer.masks.published import fetched, is_published

FORMAT: Literal["eigenprune-mask"] = "eigenprune-mask"
SCHEMA_VERSION: Literal[1] = 1
LABELLED_VERSION: Literal[2] = 2  # of files with labels; others are as before, so that older versions read them
MAX_BYTES = 20_000_000
RELEASED_MEANS = "frozen_means"  # an entry of `metrics`, which says what the frozen means are if not means of inputs
Mode = Literal["freeze", "zero"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BaseIdentity(_Frozen):
    """The model whose weights are subtracted in the basis `delta`; `weights` is their digest, as they are stored."""

    source: str = Field(max_length=500)
    revision: str | None = Field(default=None, max_length=200)
    weights: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class ModelIdentity(_Frozen):
    """Which model a mask belongs to.

    Attributes:
        digest: decides. It covers weights, configuration, tokenizer and basis, with the weights that are subtracted in
            `delta`; in files without `weights`, of before, the weights alone, as they were loaded.
        weights: digest of the weights alone, as they are stored.
        dtype: type that the model was loaded in when sigmas and frozen means were taken; a mask fits any.
        against: the base model of the basis `delta`, None in any other.
    """

    source: str = Field(max_length=500)
    revision: str | None = Field(default=None, max_length=200)
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    basis: Literal["raw", "folded", "delta"] = "raw"
    # Left out where they are not known, as in files of before.
    weights: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$", exclude_if=lambda value: value is None)
    dtype: str | None = Field(default=None, max_length=20, exclude_if=lambda value: value is None)
    against: BaseIdentity | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _based(self) -> Self:
        if (self.against is None) == (self.basis == "delta"):
            raise ValueError("a base model (against) belongs to the basis delta, and only to that")
        return self

    def may_be(self, other: ModelIdentity) -> bool:
        """Whether both are one model as far as can be told: a file of before knows the weights alone."""
        mine, theirs = ((one.digest, one.weights or one.digest) for one in (self, other))
        told = self.weights is None or other.weights is None
        return self.basis == other.basis and (mine[0] == theirs[0] or (told and mine[1] == theirs[1]))


class Removed(_Frozen):
    """One removed singular value: matrix key, index, s_i, and the frozen mean c_i = m . u_i."""

    matrix: MatrixName
    index: int = Field(ge=0)
    sigma: Finite = Field(ge=0)
    c: Finite = 0.0

    @property
    def key(self) -> MatrixKey:
        """The matrix as a key."""
        return MatrixKey.parse(self.matrix)


class Derived(_Frozen):
    """How a mask was made from other masks.

    Attributes:
        how: `union`, `intersection`, `vote 2` (of at least two) or `transfer` (to another model or task).
        masks: digests of those masks, in the order in which their frozen means win.
        model: digest of the model that they belong to, if it is another one.
        means: task whose train tokens gave the frozen means, if they were computed anew.
    """

    how: str
    masks: tuple[str, ...]
    model: str | None = None
    means: str | None = None

    @field_validator("masks", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Provenance(_Frozen):
    """How a mask was found, as far as it is known.

    Attributes:
        task: its name; `task_digest`, `shots`, `template`, `bos`, `chat` and `system` say what was asked.
        splits, hold_out, wordings, only: which of its cases, if not the usual ones; files of before say nothing of the
            splits and had the published ones: `task_digest` tells.
        metric: what counted as right, if it was not the task's usual one.
        split: whose first `examples` were scored.
        strategy: what chose the values by the scores.
    """

    task: str | None = None
    task_digest: str | None = None
    shots: int | None = None
    template: str | None = None
    # Left out where they are as usual: such a file says what it always said, and older versions read it.
    bos: str = Field(default="auto", exclude_if=lambda bos: bos == "auto")
    chat: bool = Field(default=False, exclude_if=lambda chat: not chat)
    system: str | None = Field(default=None, exclude_if=lambda system: system is None)
    splits: str | None = Field(default=None, exclude_if=lambda splits: splits is None)
    hold_out: str | None = Field(default=None, exclude_if=lambda hold_out: hold_out is None)
    wordings: int = Field(default=1, exclude_if=lambda wordings: wordings == 1)
    only: str | None = Field(default=None, exclude_if=lambda only: only is None)
    metric: str | None = Field(default=None, exclude_if=lambda metric: metric is None)
    split: str | None = None
    examples: int | None = None
    seed: int | None = None
    scorer: str | None = None
    strategy: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    derived: Derived | None = None


class Mask(_Frozen):
    """Removed singular values of one model, in canonical order, without duplicates.

    Attributes:
        mode: `freeze` replaces the removed part by its mean over the task's train tokens, `zero` by nothing.
        gain: share of each value that stays, from 0 (removed) to below 1 (scaled).
        labels: what people call some of the removed values; they are no part of the edit, and of its digest.
    """

    format: Literal["eigenprune-mask"] = FORMAT
    schema_version: Literal[1, 2] = SCHEMA_VERSION
    model: ModelIdentity
    mode: Mode = "freeze"
    # Left out where it is 0: such a file says what it always said, and older versions read it.
    gain: Finite = Field(default=0.0, ge=0, lt=1, exclude_if=lambda gain: gain == 0)
    removed: tuple[Removed, ...] = ()
    provenance: Provenance = Provenance()
    metrics: dict[str, Any] = Field(default_factory=dict)
    labels: tuple[DirectionLabel, ...] = Field(default=(), exclude_if=lambda labels: not labels)

    @field_validator("removed", "labels", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("removed")
    @classmethod
    def _sorted(cls, removed: tuple[Removed, ...]) -> tuple[Removed, ...]:
        return tuple(sorted(removed, key=lambda one: (one.key, one.index)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        places = [(one.matrix, one.index) for one in self.removed]
        self._check_labels(set(places))
        for earlier, later in pairwise(places):
            if earlier == later:
                raise ValueError(f"singular value {later[1]} of {later[0]} is listed twice")
        stacked = {key for key in self.by_matrix if key.kind.has_heads and key.head is None}
        for key in self.by_matrix:
            if key.head is not None and key.stacked in stacked:
                raise ValueError(
                    f"{key} and {key.stacked} overlap: a mask holds a matrix per head or stacked, not both"
                )
        return self

    def _check_labels(self, places: set[tuple[str, int]]) -> None:
        if self.labels and self.schema_version != LABELLED_VERSION:
            raise ValueError(f"a mask with labels has schema version {LABELLED_VERSION}")
        if len({one.place for one in self.labels}) < len(self.labels):
            raise ValueError("a value has two labels")
        if astray := [one for one in self.labels if one.place not in places]:
            raise ValueError(f"a label is of {astray[0].matrix} value {astray[0].index}, which is not removed")

    @cached_property
    def by_matrix(self) -> Mapping[MatrixKey, tuple[Removed, ...]]:
        """Removed values per matrix, in canonical order."""
        grouped: dict[str, list[Removed]] = {}
        for one in self.removed:
            grouped.setdefault(one.matrix, []).append(one)
        return {MatrixKey.parse(matrix): tuple(values) for matrix, values in grouped.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over model, mode, gain and removed values: equal exactly when the edit is equal."""
        mode = f"{self.mode} {self.gain!r}" if self.gain else self.mode
        values = "".join(f"{one.matrix} {one.index} {one.sigma!r} {one.c!r};" for one in self.removed)
        return digest([f"{self.model.digest} {self.model.basis} {mode};{values}".encode()])

    def __len__(self) -> int:
        return len(self.removed)

    @property
    def state(self) -> str:
        """What its values are, in words: `removed`, or `scaled to 50 %`."""
        return state_of(self.gain)

    @property
    def has_released_means(self) -> bool:
        """Whether frozen means may be the released code's: of what stands before a norm, summed over positions."""
        return self.provenance.scorer == "as-released" or RELEASED_MEANS in self.metrics

    def indices(self, key: MatrixKey) -> frozenset[int]:
        """Indices removed from one matrix."""
        return frozenset(one.index for one in self.by_matrix.get(key, ()))

    def with_removed(self, values: Iterable[Removed]) -> Mask:
        """This mask with further values removed; a value that is removed already is replaced by the given one."""
        merged = {(one.matrix, one.index): one for one in (*self.removed, *values)}
        return self._replaced(merged.values())

    def without(self, places: Collection[tuple[str, int]]) -> Mask:
        """This mask with the values at (matrix, index) restored."""
        gone = set(places)
        return self._replaced(one for one in self.removed if (one.matrix, one.index) not in gone)

    def without_all(self) -> Mask:
        """This mask with every value restored: the unpruned model."""
        return self._replaced(())

    def scaled(self, gain: float) -> Mask:
        """This mask with another gain; raises MaskError for one outside of [0, 1)."""
        return self._replaced(self.removed, gain)

    def union(self, other: Mask) -> Mask:
        """Values removed in either mask; this mask's frozen means win where both have one."""
        self._comparable(other)
        both = self._replaced(other.with_removed(self.removed).removed)
        return both.with_labels({one.place: one for one in (*other.labels, *self.labels)}.values())

    def intersection(self, other: Mask) -> Mask:
        """Values removed in both masks, with this mask's frozen means."""
        self._comparable(other)
        places = {(one.matrix, one.index) for one in other.removed}
        return self._replaced(one for one in self.removed if (one.matrix, one.index) in places)

    def difference(self, other: Mask) -> Mask:
        """Values removed in this mask and kept in the other."""
        self._comparable(other)
        return self.without({(one.matrix, one.index) for one in other.removed})

    def with_labels(self, labels: Iterable[DirectionLabel]) -> Mask:
        """This mask with the labels of those of its values that have some, instead of its own."""
        labels = tuple(labels)
        if not labels and not self.labels:
            return self
        places = {(one.matrix, one.index) for one in self.removed}
        mine = sorted(
            (one for one in labels if one.place in places), key=lambda one: (MatrixKey.parse(one.matrix), one.index)
        )
        version = LABELLED_VERSION if mine else SCHEMA_VERSION
        return self.model_copy(update={"labels": tuple(mine), "schema_version": version})

    def of_model(self, identity: ModelIdentity) -> Mask:
        """This mask with another identity, its provenance and metrics included; nothing is checked."""
        return Mask(
            model=identity,
            mode=self.mode,
            gain=self.gain,
            removed=self.removed,
            provenance=self.provenance,
            metrics=dict(self.metrics),
        ).with_labels(self.labels)

    def check_model(self, identity: ModelIdentity) -> None:
        """Raise MaskError, with the reason, unless the mask belongs to this model."""
        if reason := self.misfit(identity):
            raise MaskError(reason)

    def misfit(self, identity: ModelIdentity) -> str | None:
        """Why the mask does not belong to a model; None if it does."""
        own = self.model
        if own.basis != identity.basis:
            return (
                f"the mask was made in the {own.basis} basis, the model is loaded in the {identity.basis} one: "
                "their singular values differ; load the model in the mask's basis."
            )
        if own.against is not None and identity.against is not None and own.against.weights != identity.against.weights:
            return (
                f"the mask is of the difference from {own.against.source}, the model is loaded beside "
                f"{identity.against.source}: their singular values differ; load it with the mask's base model."
            )
        if own.digest == identity.digest:
            return None
        if own.weights is not None and own.weights == identity.weights:
            return (
                f"the mask was made for {own.source}, whose weights {identity.source} has, but not its configuration "
                "or its tokenizer: load that model, or make a mask for this one."
            )
        if own.may_be(identity):
            return (
                f"the mask of {own.source} identifies its weights alone, as files of before do: write it anew with "
                "`eigenprune mask renew` first."
            )
        return (
            f"the mask was made for {own.source} ({own.digest[:15]}...), not for {identity.source} "
            f"({identity.digest[:15]}...): load that model, or make a mask for this one."
        )

    def to_json(self) -> str:
        """The mask file's text."""
        return self.model_dump_json(indent=1) + "\n"

    def save(self, path: Path | str) -> None:
        """Write the mask file atomically; raises MaskError if the place cannot be written."""
        try:
            write_text(Path(path), self.to_json())
        except OSError as error:
            raise MaskError(f"{path} cannot be written ({error.strerror}): choose another place.") from None

    def _comparable(self, other: Mask) -> None:
        other.check_model(self.model)
        if self.mode != other.mode:
            raise MaskError(f"a {self.mode} mask and a {other.mode} mask cannot be combined: make both in one mode.")
        if self.gain != other.gain:
            raise MaskError(
                f"a mask of gain {self.gain!r} and a mask of gain {other.gain!r} cannot be combined: scale both to one "
                "gain."
            )

    def _replaced(self, removed: Iterable[Removed], gain: float | None = None) -> Mask:
        try:
            return Mask(
                model=self.model,
                mode=self.mode,
                gain=self.gain if gain is None else gain,
                removed=tuple(removed),
                provenance=self.provenance,
                metrics={name: note for name, note in self.metrics.items() if name == RELEASED_MEANS},
            ).with_labels(self.labels)
        except ValidationError as error:
            raise MaskError(_sentence(error)) from None


def parse_mask(text: str | bytes, *, name: str = "the mask") -> Mask:
    """Read a mask file's text; a byte order mark in front of it, which some editors write, does not matter.

    Raises:
        MaskError: oversized, not JSON, another format or version, or a field that does not fit; says which.
    """
    text = text.removeprefix("\ufeff") if isinstance(text, str) else text.removeprefix(codecs.BOM_UTF8)
    if len(text) > MAX_BYTES:
        raise MaskError(f"{name} has {len(text):,} bytes: mask files have at most {MAX_BYTES:,}; is it another file?")
    try:
        mask = Mask.model_validate_json(text)
    except ValidationError as error:
        raise MaskError(f"{name} is not a usable mask file: {_sentence(error)}; export it again.") from None
    if (key := repeated_key(text)) is not None:
        raise MaskError(f"{name} is not a usable mask file: it names {key[:40]!r} twice in one place; export it again.")
    return mask


def load_mask(path: Path | str) -> Mask:
    """Read a mask file, or one that somebody has published (`explorer.masks.published`).

    Raises:
        MaskError: as `parse_mask`, or it cannot be read.
    """
    if is_published(path):
        return parse_mask(fetched(path, MAX_BYTES), name=str(path))
    path = Path(path)
    try:
        if ordinary(path).stat().st_size > MAX_BYTES:
            raise MaskError(f"{path} has {path.stat().st_size:,} bytes: mask files have at most {MAX_BYTES:,}.")
        return parse_mask(path.read_bytes(), name=str(path))
    except OSError as error:
        raise MaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    what = first["msg"].removeprefix("Value error, ")
    return f"{what} (at {where})" if where else what
