"""Which solver decomposes a batch; CUDA's are fakes that keep a record, since their choice is what is tested."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explorer.spectra import routes
from explorer.spectra.routes import exact, right_vectors


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The drivers that were asked for; LAPACK answers in their place."""
    solve, names = torch.linalg.svd, list[str | None]()

    def fake(W: Tensor, *, driver: str | None, **options: Any) -> Any:
        names.append(driver)
        return solve(W, **options)

    monkeypatch.setattr(torch.linalg, "svd", fake)
    monkeypatch.setattr(routes, "FASTEST", {})
    return names


def batch(count: int = 3, long: int = 12, r: int = 4) -> Tensor:
    return torch.randn(count, long, r, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "count", "shape", "expected"),
    [
        ("cuda", 3, (12, 4), ("gram", "gesvda")),
        ("cuda", 1, (12, 4), ("gram",)),  # no batch
        ("cuda", 3, (7, 4), ("gram",)),  # not tall
        ("cpu", 3, (12, 4), ("gram",)),
    ],
)
def test_gesvda_is_for_batches_of_tall_matrices_on_cuda(
    kind: str, count: int, shape: tuple[int, int], expected: tuple[str, ...]
) -> None:
    assert routes.routes(kind, count, shape) == expected


@pytest.mark.parametrize("slower", ["gram", "gesvda"])
def test_the_faster_route_is_measured_once_for_a_shape(
    slower: str, asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, ran = [0.0], list[str]()

    def timed(name: str) -> Any:
        run = routes.ROUTES[name]

        def wrapped(tall: Tensor) -> Any:
            now[0] += 2.0 if name == slower else 1.0
            ran.append(name)
            return run(tall)

        return wrapped

    monkeypatch.setattr(routes, "ROUTES", {name: timed(name) for name in ("gram", "gesvda")})
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    faster = "gesvda" if slower == "gram" else "gram"
    for _ in range(2):
        values, v = right_vectors(batch(), kind="cuda")
    assert ran == ["gram", "gesvda", faster, faster]
    expected = np.linalg.svd(batch().numpy(), compute_uv=False)
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-10)
    projected = (batch() @ v).norm(dim=1)
    np.testing.assert_allclose(projected.numpy(), expected, rtol=1e-10)
    assert set(asked) == {"gesvda"}


def test_what_is_not_finite_never_reaches_the_solver(asked: list[str | None]) -> None:
    broken = batch()
    broken[1, 0, 0] = torch.nan
    values, _ = right_vectors(broken, kind="cuda")
    assert values[1].tolist() == [0.0] * 4
    assert asked == []


def test_what_lost_digits_is_decomposed_exactly(asked: list[str | None]) -> None:
    W = batch()[0]
    for kind, driver in (("cuda", "gesvd"), ("cpu", None)):
        u, s, vh = exact(W, kind)
        torch.testing.assert_close(u @ torch.diag(s) @ vh, W)
        assert asked.pop() == driver
