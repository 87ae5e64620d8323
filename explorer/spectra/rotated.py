"""Matrices taken apart in a random basis in place of the singular one: what is left once "singular" says nothing.

With W = U diag(s) Vh and a random orthogonal Q [r, r], drawn by a seed and the matrix's name,

    W = (U Q) (Q^T diag(s) Vh) = sum_i t_i a_i b_i^T,   a_i = (U Q)_i,   t_i b_i^T = (Q^T diag(s) Vh)_i,   |b_i| = 1

so that there are as many parts of rank one, they add up to W, and the a_i are an orthonormal basis of the u_i's span.
The b_i have length one and are not orthogonal: no other basis than the singular one is so on both sides. Parts go by
size t_i, descending, and signs are canonical, as those of singular values. Values that are exactly 0 stay so: Q mixes
the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.spectra.svd import Decomposition


class RotatedBases(SvdCache):
    """Decompositions of another cache, each in a random basis; for work that takes any cache.

    Args:
        svds: the decompositions themselves.
        seed: of the bases: equal ones give equal bases.
    """

    def __init__(self, svds: SvdCache, seed: int) -> None:
        super().__init__(None)
        self._inner, self._seed = svds, seed

    def get_many(
        self, view: View, keys: Sequence[MatrixKey], progress: Progress | None = None, *, dtype: str | None = None
    ) -> dict[MatrixKey, Decomposition]:
        """As the other cache, each in its random basis."""
        owner = self._owner(view, dtype)
        with self._lock:
            found = {key: held for key in keys if isinstance(held := self._memory.get((owner, key)), Decomposition)}
        others = self._inner.get_many(view, [key for key in keys if key not in found], progress, dtype=dtype)
        fresh = {key: rotated(one, basis(present(one.s), self._seed, str(key))) for key, one in others.items()}
        self._remember(owner, {**fresh})
        return {key: found[key] if key in found else fresh[key] for key in keys}

    def missing(self, view: View, keys: Sequence[MatrixKey]) -> tuple[MatrixKey, ...]:
        """As the other cache."""
        return self._inner.missing(view, keys)


def present(s: Float[Tensor, " r"]) -> int:
    """Number of values that are not exactly 0."""
    return int((s != 0).sum())


def rotated(decomposition: Decomposition, q: Float[Tensor, "k k"]) -> Decomposition:
    """The same matrix in the basis U Q, with Q for its k first values; see the module docstring."""
    first, rest = range(len(q)), range(len(q), decomposition.rank)
    u, vh = decomposition.left(first), decomposition.right(first)
    a = u.double() @ q
    b = (q.T * decomposition.s[: len(q)].double()) @ vh.double()
    sizes = b.norm(dim=1)
    order = sizes.argsort(descending=True, stable=True)
    a, b, sizes = a[:, order], b[order], sizes[order]
    signs = a.gather(0, a.abs().argmax(dim=0, keepdim=True)).sign()
    units = b / sizes.clamp_min(torch.finfo(b.dtype).tiny)[:, None]
    return Decomposition(
        torch.cat([(a * signs).to(u), decomposition.left(rest)], dim=1),
        torch.cat([sizes.to(decomposition.s), decomposition.s[len(q) :]]),
        torch.cat([(units * signs.T).to(vh), decomposition.right(rest)]),
    )


def basis(size: int, seed: int, name: str) -> Float[Tensor, "r r"]:
    """A random orthogonal matrix, uniform over all of them (Mezzadri 2007), in float64."""
    number = int.from_bytes(sha256(f"{seed} {name}".encode()).digest()[:6], "big")
    generator = torch.Generator().manual_seed(number)
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    found: Tensor = q * r.diagonal().sign()
    return found
