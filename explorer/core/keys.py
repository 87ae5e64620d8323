"""Names of the matrices: `L3.K.H5` is KV head 5 of layer 3, `L3.K` all heads stacked, `L3.IN` the MLP input.

Products of two matrices of a head, `L3.QK.H5` and `L3.OV.H5`, have keys of their own type: they can be looked at, but a
mask cannot hold them.

No torch here: masks, tasks and file formats speak in keys without loading a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from explorer.core.errors import MatrixError


class Kind(StrEnum):
    """The seven kinds of matrix of a transformer block, in canonical order."""

    Q = "Q"
    K = "K"
    V = "V"
    O = "O"  # noqa: E741 - the field's own name
    IN = "IN"
    GATE = "GATE"
    OUT = "OUT"

    @property
    def has_heads(self) -> bool:
        """Whether the matrix splits into attention heads."""
        return self in ATTENTION


ATTENTION = (Kind.Q, Kind.K, Kind.V, Kind.O)
_ORDER = {kind: position for position, kind in enumerate(Kind)}
_PATTERN = re.compile(r"L(\d{1,6})\.([A-Z]+)(?:\.H(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class MatrixKey:
    """One matrix: layer, kind, and a head or None for all heads stacked (and for MLP matrices).

    K and V heads are counted as the checkpoint stores them: with grouped queries there are fewer than Q heads.
    """

    layer: int
    kind: Kind
    head: int | None = None

    def __post_init__(self) -> None:
        if self.head is not None and not self.kind.has_heads:
            raise MatrixError(
                f"{self} names a head, but {self.kind} matrices have none: write L{self.layer}.{self.kind}."
            )

    @classmethod
    def parse(cls, text: str) -> MatrixKey:
        """Read a key such as `L0.K.H1`, `L0.K` or `L0.OUT`; raises MatrixError for anything else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is not None and match[2] in Circuit.__members__:
            raise MatrixError(
                f"{text[:40]} is a product of two matrices, which can be looked at but not scored or pruned: "
                f"choose one of its {' and '.join(Circuit(match[2]).kinds)} matrices."
            )
        if match is None or match[2] not in Kind.__members__:
            raise MatrixError(
                f"{text[:40]!r} is not a matrix key: expected layer, kind ({', '.join(Kind)}) and, for attention, "
                "an optional head, as in L0.K.H1, L0.K or L0.OUT."
            )
        return cls(int(match[1]), Kind(match[2]), None if match[3] is None else int(match[3]))

    def __str__(self) -> str:
        return f"L{self.layer}.{self.kind}" + ("" if self.head is None else f".H{self.head}")

    def __lt__(self, other: MatrixKey) -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[int, int, int]:
        return self.layer, _ORDER[self.kind], -1 if self.head is None else self.head

    @property
    def stacked(self) -> MatrixKey:
        """The whole matrix that this one is stored in."""
        return MatrixKey(self.layer, self.kind)


class Circuit(StrEnum):
    """The two products of a head's matrices (Elhage et al. 2021): `QK = W_Q W_K^T`, `OV = W_V W_O`."""

    QK = "QK"
    OV = "OV"

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """The kinds of its two factors, in the order of multiplication."""
        return (Kind.Q, Kind.K) if self is Circuit.QK else (Kind.V, Kind.O)


@dataclass(frozen=True, slots=True)
class CircuitKey:
    """One product of matrices: layer, circuit, and query head. Read-only: no mask can hold it."""

    layer: int
    circuit: Circuit
    head: int

    @classmethod
    def parse(cls, text: str) -> CircuitKey:
        """Read a key such as `L0.QK.H1`; raises MatrixError for anything else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None or match[2] not in Circuit.__members__ or match[3] is None:
            raise MatrixError(
                f"{text[:40]!r} is not the key of a head's QK or OV: expected one such as L0.QK.H1 or L0.OV.H1."
            )
        return cls(int(match[1]), Circuit(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"L{self.layer}.{self.circuit}.H{self.head}"


AnyKey = MatrixKey | CircuitKey


def parse_key(text: str) -> AnyKey:
    """Read the key of a matrix or of a head's QK or OV; raises MatrixError for anything else."""
    match = _PATTERN.fullmatch(text.strip())
    product = match is not None and match[2] in Circuit.__members__
    return CircuitKey.parse(text) if product else MatrixKey.parse(text)


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """Read a list such as `Q,K`, `QKVO` or `QK,OUT` (or `all`) into kinds in canonical order; raises MatrixError."""
    if text.strip().lower() == "all":
        return tuple(Kind)
    parts = [part.strip().upper() for part in text.split(",") if part.strip()]
    names = [name for part in parts for name in ([part] if part in Kind.__members__ else part)]
    unknown = [name for name in names if name not in Kind.__members__]
    if unknown or not names:
        raise MatrixError(
            f"{text[:40]!r} is not a list of kinds: expected some of {', '.join(Kind)} separated by commas, "
            "letters such as QKVO, or 'all'."
        )
    return tuple(kind for kind in Kind if kind in names)
