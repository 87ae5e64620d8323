"""Spectra of a safetensors checkpoint, matrix by matrix, without loading the model.

config.json and the headers of its files must fit each other as for loading (`explorer.models.check_stored`). A matrix
is then read in pieces, so a laptop can look at a model that does not fit into its memory. Nothing is known, or said, of
the numbers in tensors that are not asked for.

1. Find the tensor of the matrix's module, and in it the rows (outputs) and columns (inputs) of the kind and head.
2. Add up the Gram matrix of the narrow side in float64, piece by piece; its eigenvalues are s^2.
3. Where s_i is below 1e-4 s_0, s^2 has lost digits: read the matrix again, whole, in float64, and let LAPACK decompose
   it in place. So too where the stored rows are the narrow side, but not by half: pieces are then columns, and each
   touches the whole tensor.

Memory: step 2 holds one [r, r] matrix in float64, step 3 one [d_in, d_out] matrix in float64, besides a few pieces of
16 MiB; files are mapped for one piece at a time. That is at most two matrices in float32, whatever the model's size.
Singular values are those of the loaded model within 1e-6 of their own size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from explorer.core.errors import MatrixError, ModelError
from explorer.core.keys import Kind, MatrixKey
from explorer.models import Source, check_stored, read_config
from explorer.models.architectures import architecture

PIECE = 16 << 20  # bytes of float64 read at a time
_GRAM_LIMIT = 1e-4  # as in explorer.spectra.svd, whose values these are


@dataclass(frozen=True, eq=False)
class CheckpointSpectrum:
    """Singular values of one matrix of a checkpoint, descending; `d_in`, `d_out` are its shape."""

    key: MatrixKey
    d_in: int
    d_out: int
    s: Float[Tensor, " r"]


@dataclass(frozen=True)
class _Part:
    """A block of a stored tensor: `[rows, columns]` as stored, each as runs of neighbours."""

    tensor: str
    rows: tuple[slice, ...]
    columns: tuple[slice, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return _length(self.rows), _length(self.columns)


class Checkpoint:
    """A folder with config.json and one or several safetensors files; at first nothing but headers is read.

    Args:
        source: where it is; see `explorer.models.locate`.

    Raises:
        ModelError: no safetensors files, a broken index, a model that the registry does not know, or one whose stored
            tensors are not those of its configuration.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.class_name, config, files = read_config(source)
        check_stored(source, files, config, class_name=self.class_name)
        self._stored = architecture(source.name, self.class_name)
        self._files = {name: tensor.path for name, tensor in files.tensors.items()}
        self._layers = int(config.num_hidden_layers)
        self._q_heads = int(config.num_attention_heads)
        self._kv_heads = _kv_heads(config)

    def heads(self, kind: Kind) -> int:
        """Number of heads of an attention kind; KV heads as the checkpoint stores them."""
        return self._kv_heads if kind in (Kind.K, Kind.V) else self._q_heads

    def matrices(
        self, kinds: Collection[Kind] | None = None, layers: Collection[int] | None = None, *, per_head: bool = False
    ) -> tuple[MatrixKey, ...]:
        """Its matrices in canonical order, attention stacked or per head.

        Raises:
            MatrixError: a kind or a layer that the model does not have.
        """
        existing = self._stored.kinds
        for kind in kinds or ():
            if kind not in existing:
                raise MatrixError(f"{self.source.name} has no {kind} matrices: choose from {', '.join(existing)}.")
        for layer in layers or ():
            if not 0 <= layer < self._layers:
                raise MatrixError(f"layer {layer} is out of range: the model has layers 0 to {self._layers - 1}.")
        found = []
        for layer in range(self._layers) if layers is None else sorted(set(layers)):
            for kind in (one for one in existing if kinds is None or one in kinds):
                heads = range(self.heads(kind)) if per_head and kind.has_heads else (None,)
                found += [MatrixKey(layer, kind, head) for head in heads]
        return tuple(found)

    def weight(self, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
        """One of `matrices` itself, in float64, read now; raises as `spectrum` does."""
        part = self._part(key)
        with self._reading(key):
            found = torch.cat(list(_pieces(self._files[part.tensor], part, by_row=True)))
            if not bool(torch.isfinite(found).all()):
                raise ValueError("not finite")
        return found if self._stored.conv1d else found.T

    def spectrum(self, key: MatrixKey) -> CheckpointSpectrum:
        """Singular values of one of `matrices`, read now.

        Raises:
            ModelError: the tensor is missing, has another shape than the configuration says, or holds NaN or infinity.
        """
        part = self._part(key)
        with self._reading(key):
            s = _singular_values(self._files[part.tensor], part)
        d_in, d_out = part.shape if self._stored.conv1d else part.shape[::-1]
        return CheckpointSpectrum(key, d_in, d_out, s=torch.from_numpy(s))

    @contextmanager
    def _reading(self, key: MatrixKey) -> Iterator[None]:
        """What goes wrong while a matrix is read, as a sentence."""
        try:
            yield
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{key} of {self.source.name} cannot be read ({error}): check its files.") from None
        except ValueError:
            raise ModelError(f"{key} of {self.source.name} holds NaN or infinite weights: check its files.") from None

    def _part(self, key: MatrixKey) -> _Part:
        """Where a matrix is stored."""
        tensor = self._tensor(key.layer, key.kind)
        d_in, total = self._shape(tensor)
        d_head = self._shape(self._tensor(key.layer, Kind.O))[0] // self._q_heads
        sharing = self._stored.sharing(key.kind)
        if key.kind.has_heads and key.kind is not Kind.O:
            widths = {kind: self.heads(kind) * d_head for kind in sharing}
        else:
            widths = {kind: total // len(sharing) for kind in sharing}
        if sum(widths.values()) != total:
            raise ModelError(
                f"{tensor} of {self.source.name} has {total} outputs, but config.json says {sum(widths.values())}: "
                "check that its files belong together."
            )
        outputs, inputs = self._stored.outputs(key.kind, widths, self._kv_heads), torch.arange(d_in)
        if key.head is not None:
            head = slice(key.head * d_head, (key.head + 1) * d_head)
            outputs, inputs = (outputs, inputs[head]) if key.kind is Kind.O else (outputs[head], inputs)
        first, second = (inputs, outputs) if self._stored.conv1d else (outputs, inputs)
        return _Part(tensor, _runs(first), _runs(second))

    def _tensor(self, layer: int, kind: Kind) -> str:
        """Name of the tensor of a module; checkpoints of a bare base model leave the first part of its name out."""
        name = f"{self._stored.module(layer, kind)}.weight"
        for candidate in (name, name.partition(".")[2]):
            if candidate in self._files:
                return candidate
        raise ModelError(f"{self.source.name} lacks the weight {name}: check that it is complete.")

    def _shape(self, tensor: str) -> tuple[int, int]:
        """`(d_in, d_out)` of a stored tensor."""
        try:
            with safe_open(self._files[tensor], framework="pt") as opened:
                shape = opened.get_slice(tensor).get_shape()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{tensor} of {self.source.name} cannot be read ({error}): check its files.") from None
        if len(shape) != 2:
            raise ModelError(f"{tensor} of {self.source.name} has {len(shape)} axes instead of 2: is it packed?")
        return (shape[0], shape[1]) if self._stored.conv1d else (shape[1], shape[0])


def _kv_heads(config: Any) -> int:
    """KV heads as the checkpoint stores them."""
    heads = int(config.num_attention_heads)
    if config.model_type == "falcon":
        if config.new_decoder_architecture:
            return int(config.num_kv_heads)
        return 1 if config.multi_query else heads
    return int(getattr(config, "num_key_value_heads", None) or heads)


def _singular_values(path: Path, part: _Part) -> NDArray[np.float64]:
    """Steps 2 and 3 of the module docstring; raises ValueError for weights that are no finite numbers."""
    rows, columns = part.shape
    if rows >= columns or 2 * rows <= columns:
        s = _by_gram(path, part)
        if s[-1] >= _GRAM_LIMIT * s[0] > 0:
            return s
    whole = np.empty((rows, columns), order="F")
    begin = 0
    for piece in _pieces(path, part, by_row=True):
        whole[begin : begin + len(piece)] = piece.numpy()
        begin += len(piece)
    if not np.isfinite(whole.sum()):
        raise ValueError("not finite")
    values: NDArray[np.float64] = scipy.linalg.svdvals(whole, overwrite_a=True, check_finite=False)
    return values


def _by_gram(path: Path, part: _Part) -> NDArray[np.float64]:
    """Step 2."""
    rows, columns = part.shape
    gram = torch.zeros(min(rows, columns), min(rows, columns), dtype=torch.float64)
    for piece in _pieces(path, part, by_row=rows >= columns):
        narrow = piece if rows >= columns else piece.T
        gram.addmm_(narrow.T, narrow)
    if not bool(torch.isfinite(gram.diagonal()).all()):
        raise ValueError("not finite")
    # The transpose of a symmetric matrix is itself, in the order of axes that LAPACK can overwrite.
    squares = scipy.linalg.eigvalsh(gram.numpy().T, overwrite_a=True, check_finite=False)
    s: NDArray[np.float64] = np.sqrt(np.clip(squares[::-1], 0.0, None))
    return s


def _pieces(path: Path, part: _Part, *, by_row: bool) -> Iterator[Float[Tensor, "row column"]]:
    """Whole rows (or columns) of a part in float64, some at a time, in their order."""
    along, across = (part.rows, part.columns) if by_row else (part.columns, part.rows)
    step = max(1, PIECE // (8 * _length(across)))
    for run in along:
        for start in range(run.start, run.stop, step):
            here = slice(start, min(start + step, run.stop))
            with safe_open(path, framework="pt") as opened:  # anew, so that pages read before are let go
                stored = opened.get_slice(part.tensor)
                read = [stored[here, other] if by_row else stored[other, here] for other in across]
            yield torch.cat([block.to(torch.float64) for block in read], dim=1 if by_row else 0)


def _runs(indices: Int[Tensor, " n"]) -> tuple[slice, ...]:
    """Ascending indices as runs of neighbours."""
    breaks = (indices.diff() != 1).nonzero().flatten() + 1
    bounds = [0, *breaks.tolist(), len(indices)]
    return tuple(slice(int(indices[a]), int(indices[b - 1]) + 1) for a, b in pairwise(bounds))


def _length(runs: tuple[slice, ...]) -> int:
    return sum(run.stop - run.start for run in runs)
