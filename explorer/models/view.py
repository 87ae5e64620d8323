"""A session's view of a shared model: its own modules, the model's weights.

A view is a deep copy whose memo already holds every weight and buffer, so it costs no weight memory. Replacing a
weight on it changes the view only.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.models.rotary import side

if TYPE_CHECKING:
    from explorer.models.load import Model

# TransformerLens takes the copy hook off a class while it copies an instance of it, so copies must not overlap.
_COPYING = threading.Lock()


class View:
    """Modules of one session over the weights of a shared `Model`; used by one thread at a time.

    Attributes:
        model: the shared model.
        bridge: TransformerLens bridge of this view: hooks, names, configuration.
        applied: what `explorer.masks.apply` has put onto this view, per stacked matrix; empty means unpruned.
    """

    def __init__(self, model: Model, bridge: Any) -> None:
        self.model = model
        self.bridge = bridge
        self.applied: dict[Any, Any] = {}
        self.lock = threading.RLock()

    @property
    def config(self) -> Any:
        """TransformerLens configuration: n_layers, n_heads, n_key_value_heads, d_head, d_model, ..."""
        return self.bridge.cfg

    def logits(
        self, tokens: Int[Tensor, "batch position"], keep: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch kept vocabulary"]:
        """Next-token logits; `keep` limits the unembedding to some positions."""
        options = {} if keep is None else {"logits_to_keep": keep}
        logits: Tensor = self.bridge.original_model(tokens, use_cache=False, **options).logits
        return logits

    def logits_at(
        self,
        tokens: Int[Tensor, "batch position"],
        rows: Int[Tensor, " place"],
        positions: Int[Tensor, " place"],
        **options: Any,
    ) -> Float[Tensor, "place vocabulary"]:
        """Next-token logits at single places (row, position) only; `options` go to the Hugging Face model.

        The places are picked from what the unembedding reads, so it runs on no other, whatever the family does with
        its logits afterwards (soft caps).
        """

        def pick(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = args[0]
            return (x[rows.to(x.device), positions.to(x.device)][None], *args[1:])

        handle = self.bridge.unembed.register_forward_pre_hook(pick)
        try:
            logits: Tensor = self.bridge.original_model(tokens, **{"use_cache": False, **options}).logits
        finally:
            handle.remove()
        return logits[0]

    def side(self, length: int) -> int:
        """Runs of lengths with one answer rotate alike, and may be put together: see `explorer.models.rotary`."""
        return side(self.bridge.original_model.config, length)

    @property
    def device(self) -> torch.device:
        """Where tokens go and logits come from; where the weights are, unless they are spread over several devices."""
        return torch.device(self.bridge.original_model.device)


class ViewPool:
    """Views of one model lent out for exclusive use, so that sessions and jobs never share one.

    A lent view may still carry the last borrower's mask: put yours onto it first (`explorer.masks.apply.apply`).

    Attributes:
        model: whose views.
    """

    def __init__(self, model: Model, idle: int = 4) -> None:
        self.model = model
        self._idle: list[View] = []
        self._keep = idle
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self) -> Iterator[View]:
        """A view that nobody else uses until the block ends."""
        with self._lock:
            view = self._idle.pop() if self._idle else None
        view = view or self.model.view()
        try:
            yield view
        finally:
            with self._lock:
                if len(self._idle) < self._keep:
                    self._idle.append(view)


def copy_bridge(bridge: Any, dtype: torch.dtype | None = None) -> Any:
    """Deep copy of a TransformerLens bridge that shares all parameters, and buffers but of rotations.

    Some rotations write their frequencies (a few numbers) as they run; two views may run at the same time. With a type,
    what is of another one is copied into it instead.
    """
    memo: dict[int, Any] = {}
    own = {id(x) for part in bridge.original_model.modules() if hasattr(part, "rope_type") for x in part.buffers()}
    for root in (bridge, bridge.original_model):
        for tensor in (*root.parameters(), *root.buffers()):
            if id(tensor) not in memo and id(tensor) not in own:
                memo[id(tensor)] = tensor if dtype is None else in_type(tensor, dtype)
    for module in {*bridge.modules(), *bridge.original_model.modules()}:  # nearly all belong to both
        memo.update(_empty_copies(module))
    with _COPYING:
        copied = copy.deepcopy(bridge, memo)
    if dtype is not None:
        copied.cfg.dtype = dtype  # what attention casts to
    return copied


def in_type(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A parameter or buffer in a type; itself if it is in that already, or holds no fractions."""
    if tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    values = tensor.detach().to(dtype)
    return torch.nn.Parameter(values, requires_grad=False) if isinstance(tensor, torch.nn.Parameter) else values


def _empty_copies(module: torch.nn.Module) -> Iterator[tuple[int, Any]]:
    """A new one for every empty collection of a module: it has a dozen for hooks, and `deepcopy` is slow with them."""
    for value in vars(module).values():
        if type(value) in (OrderedDict, dict, set) and not value:
            yield id(value), type(value)()
