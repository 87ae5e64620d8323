"""`matrices`, `spectra` and `spectrum`: the weights themselves, no task needed; values are in the weights' units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import Kinds, ModelChoice, OfModel, Stacked, identity, kinds_or_all, layers_or_all
from explorer.actions.request import ALONE, Arg, Request, Result, Streaming, Tools
from explorer.core.keys import AnyKey, parse_key

if TYPE_CHECKING:
    from torch import Tensor

    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.spectra.comparison import Side
    from explorer.spectra.svd import Decomposition
    from explorer.spectra.training import Alignment, Course


@dataclass(frozen=True)
class MatricesResult(OfModel):
    """Matrices in canonical order: `shape` is [d_in, d_out], `rank` the number of singular values."""

    matrices: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class MeasuredSpectrum(Result):
    """Singular values of one matrix, descending, and what describes them (`explorer.spectra.measures`).

    Attributes:
        shape: [d_in, d_out].
        rank: number of values that are not exactly 0, as null ones of the basis `delta` are.
        condition_number: null if the smallest value is zero.
        energy_counts: the fewest largest values that carry 50, 90 and 99 % of the squared Frobenius norm.
        power_law: of the eigenvalues s^2: exponent alpha, its stderr, first value and size of the tail, KS distance;
            null if there are too few values.
        bulk_edge, above_bulk: the Marchenko-Pastur edge, in the units of the values, and how many are above it; null
            where there is no random bulk to compare with.
        degenerate_blocks: indices of neighbours whose relative gap is below 1e-2, null values left out.
    """

    matrix: str
    shape: Sequence[int]
    rank: int
    singular_values: Sequence[float]
    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    participation_ratio: float
    condition_number: float
    null_count: int
    energy_counts: Sequence[int]
    power_law: Mapping[str, Any] | None
    bulk_edge: float | None
    above_bulk: int | None
    degenerate_blocks: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Spectrum(MeasuredSpectrum):
    """A spectrum with the share of the squared Frobenius norm in values 0 to i, for every i."""

    cumulative_energy: Sequence[float]

    @classmethod
    def of(cls, matrix: str, s: Tensor, d_in: int, d_out: int) -> Spectrum:
        """From singular values [r] of a matrix [d_in, d_out]."""
        from explorer.spectra.measures import cumulative_energy

        return cls(matrix=matrix, cumulative_energy=cumulative_energy(s).tolist(), **_values(s, d_in, d_out))


@dataclass(frozen=True)
class CheckpointRow(MeasuredSpectrum):
    """The spectrum of one matrix of a checkpoint."""

    checkpoint: str


@dataclass(frozen=True)
class Angles(Result):
    """One side's k leading singular vectors in both models: cosines of the principal angles, and their mean square.

    `chance` and `chance_similarity` are the same for random subspaces of this size in `dimension` dimensions.
    """

    dimension: int
    cosines: Sequence[float]
    similarity: float
    chance: Sequence[float]
    chance_similarity: float


@dataclass(frozen=True)
class MatrixChange(Result):
    """One matrix in both models; `other` is the second model's, everything else goes from the first to the second.

    Attributes:
        relative_change: [i] is (s'_i - s_i) / s_i, null where s_i is null.
        difference: the spectrum of W' - W.
        difference_size: its Frobenius norm over that of W.
        left, right: the k leading singular vectors u and v.
        cuts_block: k ends inside a degenerate block.
    """

    matrix: str
    other: Spectrum
    relative_change: Sequence[float]
    difference: Spectrum
    difference_size: float
    k: int
    left: Angles
    right: Angles
    cuts_block: bool


@dataclass(frozen=True)
class Against(OfModel):
    """The second model of `spectra --against`, and what differs in it."""

    matrices: Sequence[MatrixChange]


@dataclass(frozen=True)
class StageOverlap(Result):
    """How far the k leading directions of two checkpoints agree (`explorer.spectra.training`).

    Attributes:
        left, right: mean squared cosine between the spans of the leading inputs (u), and outputs (v).
        directions: [i] is (u_i . u'_i) (v_i . v'_i), for each of the k leading values.
    """

    left: float
    right: float
    directions: Sequence[float]


@dataclass(frozen=True)
class StageSpectrum(Result):
    """One matrix at one checkpoint; `with_previous` is null for the first."""

    checkpoint: str
    singular_values: Sequence[float]
    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    with_last: StageOverlap
    with_previous: StageOverlap | None


@dataclass(frozen=True)
class MatrixCourse(Result):
    """One matrix over training: the checkpoints in their order, and the model last.

    Attributes:
        k: leading directions that are compared.
        chance_left, chance_right: the overlap of random subspaces of inputs, and of outputs.
    """

    matrix: str
    shape: Sequence[int]
    k: int
    chance_left: float
    chance_right: float
    stages: Sequence[StageSpectrum]


@dataclass(frozen=True)
class SpectraResult(OfModel):
    """Spectra of some matrices; `against` is null without a second model, `over` without checkpoints of training."""

    spectra: Sequence[Spectrum]
    against: Against | None
    over: Sequence[MatrixCourse] | None = None


@dataclass(frozen=True, kw_only=True)
class ListMatrices(Request):
    """List the matrices of a model with their shapes, in canonical order.

    Example: `eigenprune matrices --model bundled --kinds Q,K`
    """

    command: ClassVar[str] = "matrices"

    model: ModelChoice
    kinds: Kinds = "all"
    stacked: Stacked = False

    def run(self, tools: Tools = ALONE) -> MatricesResult:
        """List them.

        Raises:
            ExplorerError: a model or a kind that cannot be had.
        """
        kinds = kinds_or_all(self.kinds)
        view = self.model.open(tools)
        from explorer.models.matrices import matrices, shape

        found = [(key, shape(view, key)) for key in matrices(view, kinds, per_head=not self.stacked)]
        return MatricesResult(
            **identity(view),
            matrices=[{"matrix": str(key), "shape": list(size), "rank": min(size)} for key, size in found],
        )


@dataclass(frozen=True, kw_only=True)
class ShowSpectra(Request):
    """Show the singular values of matrices, their cumulative energy and what describes the spectrum.

    Products are read-only, without biases, positions, norms on queries and keys, and the scale 1 / sqrt(d_head).
    With --against the same of a second model, the spectrum of the difference, and how far the leading singular vectors
    span the same subspaces, beside what chance gives. With --over how the matrices moved over training: checkpoints are
    read one after the other, matrix by matrix, and the model is the last of them.

    Example: `eigenprune spectra --model bundled --matrix L0.K.H1 --matrix L0.QK.H1`
    """

    command: ClassVar[str] = "spectra"

    model: ModelChoice
    matrix: Annotated[
        tuple[str, ...],
        Arg("Such as L0.K.H1 (a head), L0.K (stacked), L0.OUT, or a product L0.QK.H1, L0.OV.H1; repeatable."),
    ]
    against: Annotated[
        str | None,
        Arg(
            "A second model, such as a fine-tune: what changed in each matrix. With --basis delta: the model that is "
            "subtracted."
        ),
    ] = None
    overlap: Annotated[int, Arg("Leading singular vectors whose subspaces --against and --over compare.", least=1)] = 8
    over: Annotated[
        tuple[str, ...],
        Arg(
            "Earlier checkpoints of the model's training, in their order: folders or hub ids with @revision, with "
            "commas between; repeatable."
        ),
    ] = ()
    top: Annotated[int, Arg("Values shown per matrix; --json always has all.", least=0)] = 16

    def run(self, tools: Tools = ALONE) -> SpectraResult:
        """Decompose, and compare.

        Raises:
            ExplorerError: a model or a matrix that cannot be had.
        """
        keys = list(dict.fromkeys(parse_key(text) for text in self.matrix))
        if self.model.basis == "delta" and self.model.against is None:  # the second model is the one subtracted
            return replace(self, model=replace(self.model, against=self.against), against=None).run(tools)
        view = self.model.open(tools)
        from explorer.core.progress import track
        from explorer.spectra.cache import default_cache
        from explorer.spectra.circuits import check_any
        from explorer.spectra.model_diff import decomposed

        for key in keys:
            check_any(view, key)
        other = None if self.against is None else self._open_other(view, self.against, keys, tools=tools)
        svds = default_cache(tools.notice)
        with tools.working("Decomposing") as progress:
            found = [_spectrum(str(key), decomposed(view, svds, key)) for key in track(keys, progress)]
        against = None if other is None else self._compare(view, other, keys, svds=svds, tools=tools)
        over = self._over(view, keys, svds=svds, tools=tools) if self.over else None
        return SpectraResult(**identity(view), spectra=found, against=against, over=over)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of the earlier checkpoints, one by one."""
        return tuple(name for text in self.over for one in text.split(",") if (name := one.strip()))

    def _over(self, view: View, keys: Sequence[AnyKey], svds: SvdCache, tools: Tools) -> tuple[MatrixCourse, ...]:
        from explorer.spectra.training import courses

        with tools.working("Reading checkpoints") as progress:
            found = courses(view, self.checkpoints, keys, svds=svds, k=self.overlap, progress=progress)
        return tuple(map(_course, found))

    def _open_other(self, view: View, name: str, keys: Sequence[AnyKey], tools: Tools) -> View:
        """A view of the second model in the same basis; refused before any work if a matrix cannot be compared."""
        from explorer.spectra.model_diff import check_both, check_shapes

        other = replace(self.model, model=name).open(replace(tools, view=None))
        for key in keys:
            check_both(view, other, key)
            check_shapes(view, other, key)
        return other

    def _compare(self, view: View, other: View, keys: Sequence[AnyKey], svds: SvdCache, tools: Tools) -> Against:
        from explorer.core.progress import track

        with tools.working("Comparing") as progress:
            return Against(
                **identity(other),
                matrices=[_change(view, other, key, svds=svds, k=self.overlap) for key in track(keys, progress)],
            )


@dataclass(frozen=True, kw_only=True)
class ShowCheckpoint(Streaming):
    """Describe the spectra of a checkpoint matrix by matrix, without loading the model.

    Memory stays below two matrices in float32, so a laptop can look at a large model. Rows appear as they are computed;
    with --json each is one line. Names and shapes of all tensors are checked as for loading; only the matrices that are
    asked for are read.

    Example: `eigenprune spectrum --checkpoint ./Llama-70B --kinds Q,K --layers 0-3`
    """

    command: ClassVar[str] = "spectrum"

    checkpoint: Annotated[str, Arg("A folder with config.json and safetensors files, or a hub id.")]
    kinds: Kinds = "all"
    layers: Annotated[str | None, Arg("Such as 0-3,7; all layers if not given.")] = None
    per_head: Annotated[bool, Arg("Split attention matrices into heads.")] = False

    def rows(self, tools: Tools = ALONE) -> Iterator[CheckpointRow]:
        """Each matrix, as it is decomposed.

        Raises:
            ExplorerError: a checkpoint, kind or layer that cannot be had.
        """
        kinds, layers = kinds_or_all(self.kinds), layers_or_all(self.layers)
        from explorer.models import locate
        from explorer.spectra.checkpoint import Checkpoint

        opened = Checkpoint(locate(self.checkpoint))
        for key in opened.matrices(kinds, layers, per_head=self.per_head):
            found = opened.spectrum(key)
            yield CheckpointRow(
                checkpoint=opened.source.name, matrix=str(key), **_values(found.s, found.d_in, found.d_out)
            )


def _values(s: Tensor, d_in: int, d_out: int) -> dict[str, Any]:
    """Singular values [r] and all measures of them."""
    from explorer.spectra.measures import blocks, null_from, summarise

    return {
        "shape": [d_in, d_out],
        "rank": int((s != 0).sum()),
        "singular_values": s.tolist(),
        **asdict(summarise(s, d_in, d_out)),
        "degenerate_blocks": [list(block) for block in blocks(s[: null_from(s, d_in, d_out)])],
    }


def _spectrum(matrix: str, found: Decomposition) -> Spectrum:
    return Spectrum.of(matrix, found.s, found.shape[0], d_out=found.shape[1])


def _change(view: View, other: View, key: AnyKey, svds: SvdCache, k: int) -> MatrixChange:
    """A matrix in both models; `k` leading singular vectors, or as many as there are."""
    from explorer.spectra.model_diff import compare_matrix

    found = compare_matrix(view, other, key, svds=svds)
    overlap = found.overlap(min(k, found.base.rank))
    return MatrixChange(
        matrix=str(key),
        other=_spectrum(str(key), found.other),
        relative_change=found.relative_change.tolist(),
        difference=Spectrum.of(str(key), found.difference, *found.shape),
        difference_size=found.size,
        k=overlap.k,
        left=_angles(overlap.left),
        right=_angles(overlap.right),
        cuts_block=overlap.cuts_block,
    )


def _course(found: Course) -> MatrixCourse:
    from explorer.spectra.measures import summarise

    stages = []
    for one, last, previous in zip(found.stages, found.with_last, found.with_previous, strict=True):
        summary = summarise(one.s, *found.shape)
        stages.append(
            StageSpectrum(
                one.name, one.s.tolist(), frobenius_norm=summary.frobenius_norm, spectral_norm=summary.spectral_norm,
                stable_rank=summary.stable_rank, effective_rank=summary.effective_rank,
                with_last=_stage_overlap(last), with_previous=None if previous is None else _stage_overlap(previous),
            )
        )  # fmt: skip
    left, right = found.chance
    return MatrixCourse(str(found.key), found.shape, found.k, chance_left=left, chance_right=right, stages=stages)


def _stage_overlap(found: Alignment) -> StageOverlap:
    return StageOverlap(found.left, found.right, found.directions.tolist())


def _angles(side: Side) -> Angles:
    return Angles(
        side.dimension,
        side.cosines.tolist(),
        side.similarity,
        chance=side.chance.tolist(),
        chance_similarity=side.chance_similarity,
    )
