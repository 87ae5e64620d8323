"""What the `mask` commands print with `--json`: these keys are stable."""

from __future__ import annotations

from typing import Any, TypedDict


class MaskEntry(TypedDict):
    """A mask file: its path, the digest of the edit, the model it is for, and how many values it removes.

    `dtype` is the type that the model was loaded in when sigmas and frozen means were taken, null in files of before.

    With a `gain` above 0 these values are scaled to it instead of removed, here and in all reports.
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


class RemovedEntry(TypedDict):
    """What is removed of one matrix; singular values and frozen means in the order of the indices."""

    matrix: str
    layer: int
    kind: str
    removed: int
    indices: list[int]
    sigma: list[float]
    c: list[float]


class VersionEntry(TypedDict):
    """A package whose version here is not the one that the mask was made with; `here` is null if it is not here."""

    package: str
    made_with: str
    here: str | None


class ShowReport(MaskEntry):
    """`mask show`: `layers` and `kinds` count removed values; `versions` lists those that differ."""

    revision: str | None
    matrices: list[RemovedEntry]
    layers: dict[str, int]
    kinds: dict[str, int]
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    versions: list[VersionEntry]


class OverlapEntry(TypedDict):
    """Values removed in the first mask only, in the second only, and in both; `jaccard` is both over either."""

    only_first: int
    only_second: int
    both: int
    jaccard: float


class MatrixOverlap(OverlapEntry):
    """The same for one matrix."""

    matrix: str


class DiffReport(OverlapEntry):
    """`mask diff`."""

    first: MaskEntry
    second: MaskEntry
    matrices: list[MatrixOverlap]


class CombineReport(TypedDict):
    """`mask union`, `intersect`, `vote`, `subtract`: `mask` was made from `masks`, `at_least` of which remove a value.

    `subtract` takes the second mask from the first, and has no `at_least`.
    """

    at_least: int | None
    masks: list[MaskEntry]
    mask: MaskEntry
    out: str


class ScaleReport(TypedDict):
    """`mask scale`: `mask` was made from `given`."""

    given: MaskEntry
    mask: MaskEntry
    out: str


class RenewReport(TypedDict):
    """`mask renew`: `checked` is false if nothing in the file tells its configuration and tokenizer."""

    model: str
    model_digest: str
    basis: str
    dtype: str
    given: MaskEntry
    mask: MaskEntry
    checked: bool
    out: str


class TransferredValue(TypedDict):
    """One transferred value and how it fits the sibling; the last three are null without `--base`.

    `match` is |u_i . u'_i| |v_i . v'_i|, 1 for equal directions; `nearest` is the sibling's index whose direction fits
    best, `nearest_match` how well.
    """

    matrix: str
    index: int
    sigma: float
    sigma_before: float
    c: float
    c_before: float
    match: float | None
    nearest: int | None
    nearest_match: float | None


class TransferReport(TypedDict):
    """`mask transfer`: `mask` is what was measured; `given` is the file, `tasks` are as in `mask damage`.

    `means` is the task whose train tokens gave the frozen means, null if they were kept. `values` is null, and `out`
    too, for a mask of this model that keeps its means. `median_match` is null without `--base`.
    """

    model: str
    model_digest: str
    basis: str
    dtype: str
    seed: int
    given: MaskEntry
    mask: MaskEntry
    means: str | None
    values: list[TransferredValue] | None
    median_match: float | None
    tasks: list[dict[str, Any]]
    out: str | None
