"""QK and OV of every architecture: numpy's decomposition of the dense product, and read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from explorer.core.errors import MaskError, MatrixError, ModelError
from explorer.core.keys import Circuit, CircuitKey, Kind, MatrixKey, parse_key
from explorer.masks.apply import empty_mask
from explorer.masks.mask import parse_mask
from explorer.models import View, load
from explorer.models import matrices as registry
from explorer.spectra.circuits import circuits, decompose_circuit, factored, factors_of
from tests.families import FAMILIES, HEADS, HIDDEN, LAYERS


@pytest.fixture(scope="module", params=["gpt2", "llama", "phi-grouped", "qwen3", "falcon", "falcon-grouped", "bloom"])
def any_view(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> View:
    path = FAMILIES[request.param].save(tmp_path_factory.mktemp(request.param))
    return load(str(path), dtype="float64").view()


def dense(view: View, key: CircuitKey) -> NDArray[np.float64]:
    """The product from whole stacked matrices, KV heads repeated as grouped-query attention repeats them."""

    def by_head(kind: Kind) -> NDArray[np.float64]:
        W = registry.read(view, MatrixKey(key.layer, kind)).numpy()
        W = W.T if kind is Kind.O else W
        split = W.reshape(HIDDEN, registry.heads(view, kind), -1).transpose(1, 0, 2)  # [head, d_model, d_head]
        return np.repeat(split, HEADS // split.shape[0], axis=0)

    first, second = (by_head(kind)[key.head] for kind in key.circuit.kinds)
    return first @ second.T


def test_circuits_are_numpys_of_the_dense_product(any_view: View) -> None:
    keys = circuits(any_view)
    assert len(keys) == LAYERS * 2 * HEADS
    for key in keys:
        found, W = decompose_circuit(any_view, key), dense(any_view, key)
        expected = np.linalg.svd(W, compute_uv=False)
        assert found.rank == min(HIDDEN, registry.shape(any_view, MatrixKey(0, Kind.Q, 0))[1])
        np.testing.assert_allclose(found.s.numpy(), expected[: found.rank], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(expected[found.rank :], 0, atol=1e-9)
        np.testing.assert_allclose(found.recompose().numpy(), W, rtol=0, atol=1e-9)
        unit = np.eye(found.rank)
        np.testing.assert_allclose(found.u.T @ found.u, unit, atol=1e-9)
        np.testing.assert_allclose(found.vh @ found.vh.T, unit, atol=1e-9)
        assert bool((found.u.gather(0, found.u.abs().argmax(dim=0, keepdim=True)) > 0).all())


class Watched(TorchFunctionMode):
    """The sizes of all tensors that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.sizes += [one.numel() for one in tree_leaves(made) if isinstance(one, torch.Tensor)]
        return made


def test_the_product_is_never_formed() -> None:
    A, B = torch.randn(300, 5, dtype=torch.float64), torch.randn(5, 400, dtype=torch.float64)
    with Watched() as watched:
        found = factored(A, B)
    assert max(watched.sizes) == 400 * 5
    torch.testing.assert_close(found.recompose(), A @ B)
    with watched:
        found.recompose()
    assert max(watched.sizes) == 300 * 400, "the watch sees products"


@pytest.mark.parametrize("shape", [(6, 9, 4), (3, 3, 3), (7, 1, 5)])
def test_factors_of_any_shape(shape: tuple[int, int, int]) -> None:
    a, inner, b = shape
    A, B = torch.randn(a, inner, dtype=torch.float64), torch.randn(inner, b, dtype=torch.float64)
    found = factored(A, B)
    assert found.rank == min(shape)
    torch.testing.assert_close(found.recompose(), A @ B)


def test_grouped_queries_share_key_and_value_heads(tmp_path: Path) -> None:
    view = load(str(FAMILIES["llama"].save(tmp_path))).view()  # 4 query heads on 2 KV heads
    heads = {(key.circuit, key.head): factors_of(view, key) for key in circuits(view) if key.layer == 1}
    assert [str(one) for one in heads[Circuit.QK, 1]] == ["L1.Q.H1", "L1.K.H0"]
    assert [str(one) for one in heads[Circuit.QK, 2]] == ["L1.Q.H2", "L1.K.H1"]
    assert [str(one) for one in heads[Circuit.OV, 3]] == ["L1.V.H1", "L1.O.H3"]


def test_heads_and_layers_that_are_not_there(view: View) -> None:
    for key in (CircuitKey(0, Circuit.QK, 99), CircuitKey(99, Circuit.OV, 0)):
        with pytest.raises(MatrixError, match=r"the model has (query heads|layers) 0 to"):
            decompose_circuit(view, key)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    model = load(str(folder))
    registry.read_base(model.view(), MatrixKey(0, Kind.K, 0))[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"L0\.K\.H0 holds NaN or infinite"):
        decompose_circuit(model.view(), CircuitKey(0, Circuit.QK, 0))


def test_keys_are_read_and_kept_out_of_masks(view: View) -> None:
    key = CircuitKey(3, Circuit.QK, 5)
    assert parse_key(str(key)) == key == CircuitKey.parse(" L3.QK.H5 ")
    assert parse_key("L3.K.H5") == MatrixKey(3, Kind.K, 5)
    for wrong in ("L3.QK", "L3.Q.H5", "QK"):
        with pytest.raises(MatrixError, match="expected one such as L0"):
            CircuitKey.parse(wrong)
    sentence = "L3.QK.H5 is a product of two matrices, which can be looked at but not scored or pruned: choose one"
    with pytest.raises(MatrixError, match=sentence):
        MatrixKey.parse("L3.QK.H5")
    text = (
        empty_mask(view.model)
        .to_json()
        .replace('"removed": []', '"removed": [{"matrix": "L3.QK.H5", "index": 0, "sigma": 1.0}]')
    )
    with pytest.raises(MaskError, match=sentence):
        parse_mask(text)
