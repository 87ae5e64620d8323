"""Devices that are not there: tensors that compute on the CPU, say that they lie elsewhere, and mix with no others.

`pretended()` makes `meta:0`, `meta:1` and so on such devices. As on GPUs, an operation on tensors of two devices is an
error, but for numbers without dimensions and indices on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

KIND = "meta"
_MOVES = ("_to_copy", "copy_", "to")
_INDEXED = ("index", "index_put_", "_unsafe_index", "_index_put_impl_")


class Pretended(Tensor):
    """A tensor whose values are on the CPU, and which says that it is on another device."""

    values: Tensor
    place: str

    @staticmethod
    def __new__(cls, values: Tensor, place: str) -> Pretended:
        made: Pretended = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
            device=place, requires_grad=False,
        )  # fmt: skip
        made.values, made.place = values, place
        return made

    def data_ptr(self) -> int:
        return self.values.data_ptr()

    def tolist(self) -> Any:
        return self.values.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return Pretended(self.values.clone(), self.place)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of ATen, on the values; results are where its arguments are, or where it is told to put them."""
    name = func.overloadpacket.__name__
    given = tree_flatten((args, kwargs))[0]
    tensors = [one for one in given if isinstance(one, Tensor)]
    places = list(dict.fromkeys(one.place for one in tensors if isinstance(one, Pretended)))
    wanted = next((one for one in given if isinstance(one, torch.device)), None)
    target = str(wanted) if wanted is not None else places[0] if places else "cpu"
    if name not in _MOVES:
        if len(places) > 1:
            raise RuntimeError(f"{name} on tensors of {' and '.join(places)}")
        strays = [one for one in tensors if not isinstance(one, Pretended) and one.dim()]
        indices = name in _INDEXED and all(not one.is_floating_point() for one in strays)
        if places and strays and not indices:
            raise RuntimeError(f"{name} on tensors of {places[0]} and the CPU")
    if name == "copy_":
        target = args[0].place if isinstance(args[0], Pretended) else "cpu"
    result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    same = {id(_values(one)): one for one in tensors}  # what works in place gives back what it was given

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if id(one) in same and name not in ("to", "_to_copy"):
            return same[id(one)]
        return Pretended(one, target) if target.startswith(f"{KIND}:") else one

    return tree_map(placed, result)


def _values(one: Any) -> Any:
    if isinstance(one, torch.device):
        return torch.device("cpu")
    return one.values if isinstance(one, Pretended) else one


class _Factories(TorchDispatchMode):
    """What is made on, or moved to, such a device becomes a `Pretended` tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


@contextmanager
def pretended() -> Iterator[None]:
    """Have the devices meta:0, meta:1, ... for a block."""
    made = torch.tensor

    def tensor(data: Any, **options: Any) -> Tensor:
        device = options.pop("device", None)  # what it makes on such a device is not seen by the dispatcher
        return made(data, **options) if device is None else made(data, **options).to(device)

    with _Factories(), patch.object(torch, "tensor", tensor):
        yield
