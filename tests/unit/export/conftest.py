"""Masks to export, on every family, and a runner of clients in this process, where a process of its own takes long."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from explorer.attribution import score
from explorer.core.keys import Kind
from explorer.export import clients
from explorer.masks.mask import Mask, Mode
from explorer.models import View
from explorer.models.matrices import matrices
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

MaskMaker = Callable[..., Mask]


def in_process(job: Mapping[str, Any], file: Path) -> None:
    """The client in this process: what it reads is the same, and the tests of families are done in time."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as here:
        warnings.simplefilter("ignore")  # peft warns of its own saving
        here.setattr(sys, "dont_write_bytecode", True)  # as the process of its own is run (-B)
        clients.run(job)


@pytest.fixture(scope="session")
def some_values(tiny_task: Task, svds: SvdCache) -> MaskMaker:
    """Makes a mask of values drawn from some kinds of a tiny model, per head or stacked."""

    def make(
        view: View, kinds: Sequence[Kind], mode: Mode = "freeze", *, count: int = 6, per_head: bool = True
    ) -> Mask:
        scored = score(view, tiny_task, svds, matrices(view, kinds, per_head=per_head), mode=mode)
        places = [(key, i) for key in scored.matrices for i in range(len(scored.matrices[key].s))]
        chosen = random.Random(1).sample(places, min(count, len(places)))
        return mask_of(view, scored, [scored.removed(key, i) for key, i in chosen])

    return make
