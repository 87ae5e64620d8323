"""What a piece of work is about that any machine may do: a model with a task, by its name, and loaded.

`ModelAndTask` is small and can be sent to a worker; opened there, it is an `OpenedModel`. Pieces of work are the cells
of `explorer.core.executor`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from explorer.core.errors import ModelError
from explorer.core.executor import Machine, Subject
from explorer.core.files import typed_path
from explorer.models import NAMED, View, load
from explorer.models.adapters import ADAPTED
from explorer.spectra.cache import SvdCache, default_cache
from explorer.tasks import Task

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A view of a model with a task, for cells.

    Attributes:
        view: any state; nobody else uses it meanwhile.
        task: whose examples are measured.
        svds: decompositions.
    """

    view: View
    task: Task
    svds: SvdCache
    _held: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def machine(self) -> Machine:
        """Where the model is, and in which type."""
        return Machine(device_name(self.view.device), self.view.model.dtype)

    def held(self, name: Hashable, make: Callable[[], T]) -> T:
        """What several cells need, such as residual streams: made for the first one, the latest thing only is kept."""
        if name not in self._held:
            self._held.clear()  # before the next one, so that two are never in memory
            self._held[name] = make()
        found: T = self._held[name]
        return found


@dataclass(frozen=True)
class ModelAndTask(Subject):
    """A model by its name or place, and a task with all of its examples.

    Attributes:
        model, against: as they are asked for; files have the same place on every machine.
        as_loaded: what it must be once it is loaded (`Model.as_loaded`).
    """

    model: str
    basis: str
    against: str | None
    dtype: str
    device: str
    as_loaded: str
    task: Task

    @classmethod
    def of(cls, view: View, task: Task) -> ModelAndTask:
        """The model of a view, as it is loaded, with a task."""
        model = view.model
        return cls(
            model=_place(model.source.name), basis=model.basis,
            against=None if model.against is None else _place(model.against.source.name), dtype=model.dtype,
            device=view.device.type, as_loaded=model.as_loaded, task=task,
        )  # fmt: skip

    def open(self) -> OpenedModel:
        """Load it.

        Raises:
            ModelError: it cannot be loaded here, or is another one here.
        """
        model = load(self.model, basis=self.basis, against=self.against, dtype=self.dtype, device=self.device)
        if model.as_loaded != self.as_loaded:
            raise ModelError(
                f"{self.model} is another model here than where it was asked for, or on another device: give both the "
                "same files."
            )
        return OpenedModel(model.view(), self.task, default_cache(lambda sentence: None))


def device_name(device: torch.device) -> str:
    """`cpu`, or what a GPU calls itself."""
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type


def _place(name: str) -> str:
    """The name of a model, or its place from the root on, as other processes work in other folders."""
    base, apart, adapter = name.partition(ADAPTED)
    path = None if base in NAMED else typed_path(base)
    place = base if path is None or not path.exists() else str(Path(path).resolve())
    return f"{place}{apart}{Path(adapter).resolve() if apart else ''}"
