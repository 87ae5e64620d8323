"""`mask show`, `diff`, `union`, `intersect`, `vote`, `subtract` and `scale`: mask files alone; no model is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import Gain, MaskFile, read_mask, refuse_unwritable
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.masks.sets import MaskOverlap

OneFile = Annotated[Path, Arg("Mask file.", positional=True)]
Files = Annotated[tuple[Path, ...], Arg("Two mask files or more, of one model, mode and gain.", positional=True)]


@dataclass(frozen=True)
class MaskEntry(Result):
    """A mask file: its path, the digest of the edit, the model it is for, and how many values it removes.

    `dtype` is the type that the model was loaded in when sigmas and frozen means were taken, null in files of before.
    With a `gain` above 0 the values are scaled to it instead of removed.
    """

    file: str
    mask_digest: str
    source: str
    model_digest: str
    basis: str
    dtype: str | None
    mode: str
    gain: float
    removed: int


def entry(file: Path, mask: Mask) -> dict[str, Any]:
    """The fields of `MaskEntry`."""
    return {
        "file": str(file),
        "mask_digest": mask.digest,
        "source": mask.model.source,
        "model_digest": mask.model.digest,
        "basis": mask.model.basis,
        "dtype": mask.model.dtype,
        "mode": mask.mode,
        "gain": mask.gain,
        "removed": len(mask),
    }


@dataclass(frozen=True)
class MaskResult(MaskEntry):
    """What a mask file says.

    Attributes:
        matrices: per matrix its layer, kind, how many are removed, their indices, and in that order sigma and c.
        layers, kinds: numbers of removed values.
        versions: packages whose version here is not the one that the mask was made with (`here` is null if it is not
            here).
    """

    revision: str | None
    matrices: Sequence[Mapping[str, Any]]
    layers: Mapping[str, int]
    kinds: Mapping[str, int]
    provenance: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class DiffResult(Result):
    """Values removed in the first mask only, in the second only, and in both, as a whole and per matrix.

    `jaccard` is both over either.
    """

    only_first: int
    only_second: int
    both: int
    jaccard: float
    first: MaskEntry
    second: MaskEntry
    matrices: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class CombineResult(Result):
    """`mask` was made from `masks`, `at_least` of which remove a value.

    `subtract` takes the second mask from the first, and has no `at_least`.
    """

    at_least: int | None
    masks: Sequence[MaskEntry]
    mask: MaskEntry
    out: str


@dataclass(frozen=True)
class ScaleResult(Result):
    """`mask` was made from `given`."""

    given: MaskEntry
    mask: MaskEntry
    out: str


@dataclass(frozen=True, kw_only=True)
class ShowMask(Request):
    """Show what a mask file removes, of which model, and how it was found.

    Example: `eigenprune mask show mult.mask.json`
    """

    command: ClassVar[str] = "mask show"

    file: OneFile

    def run(self, tools: Tools = ALONE) -> MaskResult:
        """Read it.

        Raises:
            MaskError: it is not a mask file.
        """
        mask = read_mask(self.file)
        keys = [key for key, removed in mask.by_matrix.items() for _ in removed]
        return MaskResult(
            **entry(self.file, mask),
            revision=mask.model.revision,
            matrices=_matrices(mask),
            layers=dict(Counter(f"L{key.layer}" for key in keys)),
            kinds=dict(Counter(str(key.kind) for key in keys)),
            provenance=mask.provenance.model_dump(mode="json"),
            metrics=mask.metrics,
            versions=_differing(mask.provenance.versions),
        )


@dataclass(frozen=True, kw_only=True)
class DiffMasks(Request):
    """Count the values that two masks of one model share. Frozen means and gains play no part.

    Example: `eigenprune mask diff one.mask.json other.mask.json`
    """

    command: ClassVar[str] = "mask diff"

    first: OneFile
    second: OneFile

    def run(self, tools: Tools = ALONE) -> DiffResult:
        """Compare.

        Raises:
            MaskError: a file that is no mask, or masks of two models.
        """
        from explorer.masks.sets import MaskOverlap, overlaps

        a, b = read_mask(self.first), read_mask(self.second)
        found = overlaps(a, b)
        if a.mode != b.mode:
            tools.notice(f"The first mask removes by {a.mode}, the second by {b.mode}.")
        if a.gain != b.gain:
            tools.notice(f"The values of the first mask are {a.state}, those of the second {b.state}.")
        return DiffResult(
            **_overlap(sum(found.values(), MaskOverlap(0, 0, 0))),
            first=MaskEntry(**entry(self.first, a)),
            second=MaskEntry(**entry(self.second, b)),
            matrices=[{"matrix": str(key), **_overlap(one)} for key, one in found.items()],
        )


class _Combining(Request):
    """Masks of one model combined into one."""

    out: Path

    def combine(self, files: Sequence[Path], at_least: int) -> CombineResult:
        """Write what at least so many of the masks remove."""
        if len(files) < 2:
            raise SettingsError(f"{len(files)} mask file was given: give two or more to combine.")
        refuse_unwritable(self.out)
        from explorer.masks.sets import vote

        masks = [read_mask(file) for file in files]
        return self.write(files, masks, vote(masks, at_least), at_least=at_least)

    def write(self, files: Sequence[Path], masks: Sequence[Mask], mask: Mask, at_least: int | None) -> CombineResult:
        """Write the mask."""
        mask.save(self.out)
        return CombineResult(
            at_least=at_least,
            masks=[MaskEntry(**entry(file, one)) for file, one in zip(files, masks, strict=True)],
            mask=MaskEntry(**entry(self.out, mask)),
            out=str(self.out),
        )


@dataclass(frozen=True, kw_only=True)
class UniteMasks(_Combining):
    """Write a mask that removes what any of the masks removes; the first mask's frozen means win.

    Example: `eigenprune mask union one.mask.json other.mask.json --out both.mask.json`
    """

    command: ClassVar[str] = "mask union"

    files: Files
    out: MaskFile

    def run(self, tools: Tools = ALONE) -> CombineResult:
        """Combine.

        Raises:
            MaskError, SettingsError: files that are no masks, or not of one model, mode and gain.
        """
        return self.combine(self.files, 1)


@dataclass(frozen=True, kw_only=True)
class IntersectMasks(_Combining):
    """Write a mask that removes what all of the masks remove, with the first mask's frozen means.

    Example: `eigenprune mask intersect one.mask.json other.mask.json --out shared.mask.json`
    """

    command: ClassVar[str] = "mask intersect"

    files: Files
    out: MaskFile

    def run(self, tools: Tools = ALONE) -> CombineResult:
        """Combine.

        Raises:
            MaskError, SettingsError: files that are no masks, or not of one model, mode and gain.
        """
        return self.combine(self.files, len(self.files))


@dataclass(frozen=True, kw_only=True)
class VoteMasks(_Combining):
    """Write a mask that removes what at least K of the masks remove.

    A value's frozen mean is that of the first mask that removes it.

    Example: `eigenprune mask vote 1.mask.json 2.mask.json 3.mask.json --at-least 2 --out most.mask.json`
    """

    command: ClassVar[str] = "mask vote"

    files: Files
    at_least: Annotated[int, Arg("How many masks must remove a value.", least=1)]
    out: MaskFile

    def run(self, tools: Tools = ALONE) -> CombineResult:
        """Combine.

        Raises:
            MaskError, SettingsError: files that are no masks, or not of one model, mode and gain.
        """
        return self.combine(self.files, self.at_least)


@dataclass(frozen=True, kw_only=True)
class SubtractMasks(_Combining):
    """Write a mask that removes what the first mask removes and the second does not.

    Example: `eigenprune mask subtract one.mask.json other.mask.json --out rest.mask.json`
    """

    command: ClassVar[str] = "mask subtract"

    first: OneFile
    second: OneFile
    out: MaskFile

    def run(self, tools: Tools = ALONE) -> CombineResult:
        """Combine.

        Raises:
            MaskError: files that are no masks, or not of one model and mode.
        """
        refuse_unwritable(self.out)
        masks = read_mask(self.first), read_mask(self.second)
        return self.write([self.first, self.second], masks, masks[0].difference(masks[1]), at_least=None)


@dataclass(frozen=True, kw_only=True)
class ScaleMask(Request):
    """Write a mask that scales the values of another one to a share of themselves; 0 removes them.

    Example: `eigenprune mask scale mult.mask.json --gain 0.5 --out half.mask.json`
    """

    command: ClassVar[str] = "mask scale"

    file: OneFile
    gain: Gain
    out: MaskFile

    def run(self, tools: Tools = ALONE) -> ScaleResult:
        """Scale.

        Raises:
            MaskError: a file that is no mask, a gain outside of [0, 1), or a place that cannot be written.
        """
        refuse_unwritable(self.out)
        given = read_mask(self.file)
        mask = given.scaled(self.gain)
        mask.save(self.out)
        return ScaleResult(MaskEntry(**entry(self.file, given)), MaskEntry(**entry(self.out, mask)), str(self.out))


def _matrices(mask: Mask) -> list[dict[str, Any]]:
    return [
        {
            "matrix": str(key),
            "layer": key.layer,
            "kind": str(key.kind),
            "removed": len(removed),
            "indices": [one.index for one in removed],
            "sigma": [one.sigma for one in removed],
            "c": [one.c for one in removed],
        }
        for key, removed in mask.by_matrix.items()
    ]


def _differing(versions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Packages whose version here is another one."""
    found: list[dict[str, Any]] = []
    for package, made_with in versions.items():
        try:
            here = version(package)
        except (PackageNotFoundError, ValueError):  # a name that no package can have
            here = None
        if here != made_with:
            found.append({"package": package, "made_with": made_with, "here": here})
    return found


def _overlap(one: MaskOverlap) -> dict[str, Any]:
    return {"only_first": one.only_first, "only_second": one.only_second, "both": one.both, "jaccard": one.jaccard}
