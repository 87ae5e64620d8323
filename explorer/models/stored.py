"""Weights of matrices in another type than that in which their model is loaded, read from its files.

Loading a checkpoint of float32 in bfloat16 rounds its weights, and the singular vectors of rounded weights are others:
where two entries of u_i are nearly equal in size its sign may turn round, and where two values are nearly equal in size
their vectors mix. So what is decomposed are the weights as they are stored, in float32 (float64 for a model that is
loaded in that), whatever type the model runs in (`Model.wide`). Where loading has rounded them they are read again,
one stacked matrix at a time, and folded as `explorer.models.folding` folds them.

Of the `delta` basis (`explorer.models.delta`) what is decomposed is what the stored weights are above those of the base
model, which are always read from its files.

Files may have changed since the model was loaded: what is read is compared, in the model's own type, with the weights
in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.core.errors import ModelError
from explorer.core.keys import Kind, MatrixKey
from explorer.models.architectures import architecture
from explorer.models.delta import stored_name
from explorer.models.files import ModelFiles, model_files
from explorer.models.folding import centre_writer, fold_reader
from explorer.models.matrices import check, heads, parts_of, read_base, read_base_bias, shape
from explorer.models.model import View
from explorer.models.norms import READERS, norms

ReadTensor = Callable[[str], Tensor | None]  # a stored tensor by its name in the model, None if there is none


class StoredMatrices:
    """The matrices of a view's unpruned model in a type of choice; the last stacked one read is kept.

    Args:
        view: of the model.
        dtype: `Model.wide` if not given, which is how matrices are decomposed.

    Attributes:
        in_memory: whether they are the view's own, so that no file is read.
    """

    def __init__(self, view: View, dtype: str | None = None) -> None:
        self.view = view
        self._dtype = view.model.wide if dtype is None else dtype
        self.in_memory = view.model.holds(self._dtype)
        self._files: ModelFiles | None = None
        self._last: tuple[MatrixKey, Tensor, Tensor | None] | None = None
        self._base: tuple[MatrixKey, Tensor, Tensor | None] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The type of what is read, but for what is in memory in a narrower one without loss."""
        found: torch.dtype = getattr(torch, self._dtype)
        return found

    def weight(self, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
        """W of a matrix; never write to it.

        Raises:
            MatrixError: no such matrix.
            ModelError: the files have changed since the model was loaded, or cannot be read.
        """
        if self.in_memory:
            return read_base(self.view, key).detach()
        W, _ = self._stacked(key)
        return W[parts_of(self.view, key)].to(self.view.device)

    def bias(self, key: MatrixKey) -> Float[Tensor, " d_out"] | None:
        """The bias of a matrix, None if it has none; otherwise as `weight`."""
        if self.in_memory:
            found = read_base_bias(self.view, key)
            return None if found is None else found.detach()
        _, b = self._stacked(key)
        return None if b is None else b[parts_of(self.view, key)[1]].to(self.view.device)

    def decomposed(self, key: MatrixKey) -> Float[Tensor, "d_in d_out"]:
        """What is decomposed of a matrix: W, or W' - W in the `delta` basis; otherwise as `weight`."""
        W = self.weight(key)
        if self.view.model.against is None:
            return W
        check(self.view, key)
        base, _ = self.base(key.stacked)
        return W.to(self.dtype) - base[parts_of(self.view, key)].to(W.device)

    def base(self, key: MatrixKey) -> tuple[Float[Tensor, "d_in d_out"], Float[Tensor, " d_out"] | None]:
        """Weight and bias of a stacked matrix of the base model, on the CPU; the last one read is kept."""
        against = self.view.model.against
        assert against is not None
        if self._base is None or self._base[0] != key:
            self._base = (
                key,
                *_read(self.view, partial(against.read, dtype=self.dtype), key, name=against.source.name),
            )
        return self._base[1:]

    def noise(self, key: MatrixKey) -> float:
        """Size up to which a singular value of what is decomposed may be made by rounding of the stored weights."""
        if self.view.model.against is None:
            return 0.0
        return self.view.model.rounding * float(torch.linalg.vector_norm(self.weight(key).double()))

    def _stacked(self, key: MatrixKey) -> tuple[Tensor, Tensor | None]:
        check(self.view, key)
        if self._last is None or self._last[0] != key.stacked:
            self._files = self._files or model_files(self.view.model.source)
            _check_unchanged(self.view, self._files, key.stacked)
            read = partial(_tensor, self.view, self._files, dtype=self.dtype)
            self._last = (key.stacked, *_read(self.view, read, key.stacked, name=self.view.model.source.name))
        return self._last[1:]


def _check_unchanged(view: View, files: ModelFiles, key: MatrixKey) -> None:
    """Folding elsewhere (on a GPU) may round its last digit otherwise."""
    own = read_base(view, key).detach().cpu()
    found, _ = _read(view, partial(_tensor, view, files, dtype=own.dtype), key, name=view.model.source.name)
    if view.model.basis != "folded":
        same = torch.equal(found, own)
    else:
        eps = torch.finfo(own.dtype).eps
        same = torch.allclose(found.double(), own.double(), rtol=2 * eps, atol=eps * float(own.abs().max()))
    if not same:
        raise ModelError(f"the files of {view.model.source.name} have changed since it was loaded: load it again.")


def _read(view: View, stored_tensor: ReadTensor, key: MatrixKey, name: str) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a stacked matrix of the model called `name`, in the model's basis, from stored tensors."""
    model = view.model
    stored = architecture(model.source.name, model.architecture)
    placed = norms(model.architecture, view.bridge.original_model.config)
    site = _site(stored_tensor, stored.module(key.layer, key.kind), name, conv1d=stored.conv1d)
    if model.basis == "folded" and key.kind in READERS:
        norm = f"{stored.blocks}.{key.layer}.{placed.before(key.kind)}"
        weight, bias = (stored_tensor(f"{norm}.{one}") for one in ("weight", "bias"))
        fold_reader(site, SimpleNamespace(weight=weight, bias=bias), placed)
    elif model.basis == "folded" and placed.centred:
        centre_writer(site)
    W, b = site.weight.detach(), None if site.bias is None else site.bias.detach()
    W = W if stored.conv1d else W.T
    if len(sharing := stored.sharing(key.kind)) > 1:
        widths = {kind: shape(view, MatrixKey(key.layer, kind))[1] for kind in sharing}
        outputs = stored.outputs(key.kind, widths, heads(view, Kind.K))
        W, b = W[:, outputs], None if b is None else b[outputs]
    return W, b


def _site(stored_tensor: ReadTensor, module: str, name: str, *, conv1d: bool) -> Any:
    """The stored module with its weight and bias."""
    weight, bias = stored_tensor(f"{module}.weight"), stored_tensor(f"{module}.bias")
    if weight is None:
        raise ModelError(
            f"{name} stores no {module}.weight under that name, which is decomposed as it is stored: "
            "load it in float32."
        )
    with torch.device("meta"):
        site: Any = Conv1D(1, 1) if conv1d else nn.Linear(1, 1)  # type: ignore[no-untyped-call]
    site.weight = nn.Parameter(weight, requires_grad=False)
    site.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return site


def _tensor(view: View, files: ModelFiles, name: str, dtype: torch.dtype) -> Tensor | None:
    """A stored tensor by its name in the model; checkpoints of a bare base model leave the first part out."""
    stored = stored_name(files, name, str(view.bridge.original_model.base_model_prefix))
    return None if stored is None else files.read(stored).to(dtype)
