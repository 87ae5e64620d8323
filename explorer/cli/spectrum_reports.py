"""What `spectra`, `spectrum` and `readout` print with --json; singular values are in the units of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from explorer.core.keys import AnyKey
    from explorer.spectra.svd import Decomposition


class Tail(TypedDict):
    """Power law of the eigenvalues s^2: exponent, its standard error, first value and size of the tail, KS distance."""

    alpha: float
    stderr: float
    xmin: float
    tail: int
    distance: float


class Measures(TypedDict):
    """What describes one spectrum; definitions and sources are in `explorer.spectra.measures`.

    `energy_counts` are the fewest largest values that carry 50, 90 and 99 % of the squared Frobenius norm.
    `condition_number` is null if the smallest value is zero, `power_law` if there are too few values, `bulk_edge` (the
    Marchenko-Pastur edge, in the units of the values) and `above_bulk` where there is no random bulk to compare with.
    `degenerate_blocks` lists the indices of neighbours whose relative gap is below 1e-2, null values left out.
    """

    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    participation_ratio: float
    condition_number: float
    null_count: int
    energy_counts: list[int]
    power_law: Tail | None
    bulk_edge: float | None
    above_bulk: int | None
    degenerate_blocks: list[list[int]]


class Spectrum(Measures):
    """Singular values, descending, of one matrix, and what follows from them; `shape` is [d_in, d_out].

    `cumulative_energy[i]` is the share of the squared Frobenius norm in values 0 to i.
    """

    matrix: str
    shape: list[int]
    rank: int
    singular_values: list[float]
    cumulative_energy: list[float]


class CheckpointRow(Measures):
    """One matrix of `spectrum`, which prints one JSON object per line as it goes."""

    checkpoint: str
    matrix: str
    shape: list[int]
    rank: int
    singular_values: list[float]


class Angles(TypedDict):
    """One side's k leading singular vectors: cosines of the principal angles, and their mean square.

    `chance` and `chance_similarity` are the same for random subspaces of this size in `dimension` dimensions.
    """

    dimension: int
    cosines: list[float]
    similarity: float
    chance: list[float]
    chance_similarity: float


class MatrixChange(TypedDict):
    """One matrix in both models; `other` is the second model's, everything else goes from the first to the second.

    `relative_change[i]` is (s'_i - s_i) / s_i, null where s_i is null; `difference` is the spectrum of W' - W, and
    `difference_size` its Frobenius norm over that of W. `cuts_block`: k ends inside a degenerate block.
    """

    matrix: str
    other: Spectrum
    relative_change: list[float]
    difference: Spectrum
    difference_size: float
    k: int
    left: Angles
    right: Angles
    cuts_block: bool


class Against(TypedDict):
    """The second model of `spectra --against`, and what differs in it."""

    model: str
    model_digest: str
    basis: str
    dtype: str
    matrices: list[MatrixChange]


class SpectraReport(TypedDict):
    """`spectra`; `against` is null without --against."""

    model: str
    model_digest: str
    basis: str
    dtype: str
    spectra: list[Spectrum]
    against: Against | None


def measures(s: Tensor, d_in: int, d_out: int) -> Measures:
    """All measures of a spectrum, from its singular values [r]."""
    from explorer.spectra.measures import blocks, null_from, summarise

    found = summarise(s, d_in, d_out)
    tail = found.power_law
    return {
        "frobenius_norm": found.frobenius_norm,
        "spectral_norm": found.spectral_norm,
        "stable_rank": found.stable_rank,
        "effective_rank": found.effective_rank,
        "participation_ratio": found.participation_ratio,
        "condition_number": found.condition_number,
        "null_count": found.null_count,
        "energy_counts": list(found.energy_counts),
        "power_law": None
        if tail is None
        else {
            "alpha": tail.alpha,
            "stderr": tail.stderr,
            "xmin": tail.xmin,
            "tail": tail.tail,
            "distance": tail.distance,
        },
        "bulk_edge": found.bulk_edge,
        "above_bulk": found.above_bulk,
        "degenerate_blocks": [list(block) for block in blocks(s[: null_from(s, d_in, d_out)])],
    }


def spectrum_entry(key: AnyKey, found: Decomposition) -> Spectrum:
    """One matrix, from its decomposition."""
    return spectrum_of(str(key), found.s, found.u.shape[0], found.vh.shape[1])


def spectrum_of(matrix: str, s: Tensor, d_in: int, d_out: int) -> Spectrum:
    """One matrix, from its singular values [r]."""
    from explorer.spectra.measures import cumulative_energy

    return {
        "matrix": matrix,
        "shape": [d_in, d_out],
        "rank": len(s),
        "singular_values": s.tolist(),
        "cumulative_energy": cumulative_energy(s).tolist(),
        **measures(s, d_in, d_out),
    }
