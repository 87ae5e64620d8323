"""Two routes to the right singular vectors of tall matrices in float64: eigenvectors of A^T A, or a solver of CUDA's.

`torch.linalg.svd` knows three drivers on CUDA: `gesvdj` (Jacobi, the default), `gesvd` (QR) and `gesvda`, which is for
batches of tall matrices and approximate. The last one works on A^T A as well, so that it loses the same digits as the
Gram route, and the same values have to be computed again. Which of the two is faster depends on shape and device, and
is measured: the first batch of a shape runs both, later ones the faster. What either loses is decomposed with `gesvd`,
the one driver that is made for exactness. On a CPU there is LAPACK, which has no drivers.

CUDA's part was written by PyTorch's documentation and tested with a fake solver: no GPU was at hand. `make bench
ARGS="--device cuda"` measures it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Values = Float[Tensor, "n r"]
Vectors = Float[Tensor, "n r r"]

TALL = 2  # rows to a column
FASTEST: dict[tuple[str, torch.Size], str] = {}


def right_vectors(tall: Float[Tensor, "n long r"], kind: str | None = None) -> tuple[Values, Vectors]:
    """Singular values (descending) and v; values of 0 where weights, or their squares, are not finite.

    Args:
        tall: the matrices.
        kind: type of their device; that which they are on if None.
    """
    kind = tall.device.type if kind is None else kind
    if "gesvda" not in routes(kind, len(tall), tall.shape[1:]) or not bool(torch.isfinite(tall).all()):
        return gram(tall)
    name = (kind, tall.shape[1:])
    if name not in FASTEST:
        gesvda(tall)  # libraries are loaded, and working memory is reserved, before anything is timed
        taken = {route: _seconds(run, tall, kind) for route, run in ROUTES.items()}
        FASTEST[name] = min(taken, key=lambda route: taken[route])
    return ROUTES[FASTEST[name]](tall)


def routes(kind: str, count: int, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The routes that there are for so many matrices `[long, r]` on a type of device."""
    long, r = shape
    return ("gram", "gesvda") if kind == "cuda" and count > 1 and long >= TALL * r else ("gram",)


def gram(tall: Float[Tensor, "n long r"]) -> tuple[Values, Vectors]:
    """By the eigenvectors of A^T A: see `right_vectors`."""
    products = tall.mT @ tall
    usable = torch.isfinite(products.diagonal(dim1=-2, dim2=-1)).all(dim=-1)
    if not bool(usable.all()):
        products[~usable] = 0.0
    squares, vectors = torch.linalg.eigh(products)
    return squares.flip(-1).clamp_min(0.0).sqrt(), vectors.flip(-1)


def gesvda(tall: Float[Tensor, "n long r"]) -> tuple[Values, Vectors]:
    """By CUDA's solver for batches of tall matrices: see `right_vectors`."""
    _, values, vh = torch.linalg.svd(tall, full_matrices=False, driver="gesvda")
    return values, vh.mT


def exact(W: Float[Tensor, "long r"], kind: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and vh of one matrix, by the solver of its device (or of a `kind` of device) that loses no digits."""
    driver = "gesvd" if (W.device.type if kind is None else kind) == "cuda" else None
    u, s, vh = torch.linalg.svd(W, full_matrices=False, driver=driver)
    return u, s, vh


ROUTES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"gram": gram, "gesvda": gesvda}


def _seconds(run: Callable[[Tensor], object], tall: Tensor, kind: str) -> float:
    """Wall clock of one run, the device's own work included."""
    if kind == tall.device.type == "cuda":
        torch.cuda.synchronize(tall.device)
    start = time.perf_counter()
    run(tall)
    if kind == tall.device.type == "cuda":
        torch.cuda.synchronize(tall.device)
    return time.perf_counter() - start
