"""What is left of a fine-tuning once directions of it are removed: an adapter on the base model, not on the fine-tune.

In the basis `delta` (`explorer.models.delta`) a pruned matrix is `W + D'`, with W the base's and D' what is kept of the
difference. Per stored module D' is decomposed anew, so that its adapter has no larger rank than it needs: at most that
of the difference, and less by every value that was removed from a whole matrix. Biases of the adapter are by how much
those of the pruned model differ from the base's.

An adapter changes these matrices and nothing else, so all other weights of the fine-tune must be the base's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import ExportError
from explorer.core.keys import Kind, MatrixKey
from explorer.export.edit import Edit
from explorer.export.homes import without_effect
from explorer.models.architectures import architecture
from explorer.models.delta import DeltaBase
from explorer.models.matrices import heads, matrices, shape
from explorer.models.stored import StoredMatrices
from explorer.spectra.svd import EPS, decompose_stack

Pair = tuple[Float[Tensor, "r d_in"], Float[Tensor, "d_out r"], Float[Tensor, " d_out"] | None]


def kept_pairs(edit: Edit, against: DeltaBase) -> dict[str, Pair]:
    """A, B and bias of every module in which something of the fine-tuning is kept.

    Raises:
        ExportError: the fine-tune differs from its base in other weights, too, or nothing of it is left.
    """
    view = edit.raw
    stored = architecture(view.model.source.name, view.model.architecture)
    modules: dict[str, list[MatrixKey]] = {}
    for key in matrices(view, per_head=False):
        modules.setdefault(stored.module(key.layer, key.kind), []).append(key)
    _check_rest(edit, against, {f"{name}.{part}" for name in modules for part in ("weight", "bias")})
    reader = StoredMatrices(view)
    found = {name: pair for name, keys in modules.items() if (pair := _pair(edit, reader, keys)) is not None}
    if not found:
        name = against.source.name
        raise ExportError(f"nothing of the fine-tuning is left: the pruned model is {name}, and there is no adapter.")
    return found


def _pair(edit: Edit, reader: StoredMatrices, keys: Sequence[MatrixKey]) -> Pair | None:
    """What is kept of one module, None if nothing is."""
    view = edit.raw
    stored = architecture(view.model.source.name, view.model.architecture)
    widths = {kind: shape(view, MatrixKey(keys[0].layer, kind))[1] for kind in stored.sharing(keys[0].kind)}
    d_in, d_out = shape(view, keys[0])[0], sum(widths.values())
    W, bias, noise = torch.zeros(d_in, d_out, dtype=torch.float64), torch.zeros(d_out, dtype=torch.float64), 0.0
    for key in keys:
        outputs = stored.outputs(key.kind, widths, heads(view, Kind.K))
        D, change = reader.decomposed(key).double().cpu(), edit.changes.get(key)
        noise = max(noise, reader.noise(key), max(D.shape) * EPS * float(torch.linalg.vector_norm(D)))
        W[:, outputs] = D if change is None else D + change.weight
        b, base = reader.bias(key), reader.base(key)[1]
        of_bias = (0.0 if b is None else b.double().cpu()) - (0.0 if base is None else base.double())
        if change is not None and change.bias is not None and not without_effect(view, key):
            of_bias = of_bias + change.bias
        bias[outputs] = torch.as_tensor(of_bias, dtype=torch.float64)
    svd = decompose_stack([W], [noise])[0]
    kept = (svd.s != 0).nonzero().flatten().tolist()
    biased = bool((bias != 0).any())
    if not kept and not biased:
        return None
    return svd.left(kept).T, svd.right(kept).T * svd.s[kept], bias if biased else None


def _check_rest(edit: Edit, against: DeltaBase, matrices_of: set[str]) -> None:
    """Refuse a fine-tune that an adapter of its matrices cannot be."""
    model = edit.raw.model
    stored = model.weights()
    for name in model.names:
        if name in matrices_of:
            continue
        own, base = stored[name].detach().cpu(), against.read(name, stored[name].dtype)
        if base is None or own.shape != base.shape or not torch.equal(own, base):
            raise ExportError(
                f"{model.source.name} differs from {against.source.name} in {name}, too, which no adapter of its "
                "matrices holds: export --as checkpoint."
            )
