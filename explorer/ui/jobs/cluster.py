"""The workers that the settings name, for jobs that consist of many independent cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from explorer.core.config import settings
from explorer.core.errors import ClusterError
from explorer.core.executor import Answer, Executor, Subject, WorkCell
from explorer.core.progress import Progress
from explorer.measure.opened import ModelAndTask
from explorer.models import View
from explorer.ui.session import Bench

if TYPE_CHECKING:
    from explorer.experiments.cluster.workers import RayCluster


@st.cache_resource(show_spinner=False, on_release=lambda cluster: cluster.close())
def workers(address: str, device: str) -> RayCluster:
    """The process's workers; started by the first job that needs them."""
    from explorer.experiments.cluster.address import ClusterAddress, takes_gpu
    from explorer.experiments.cluster.workers import connect

    return connect(ClusterAddress.parse(address), gpus=takes_gpu(device))


@dataclass(frozen=True)
class _Workers:
    """An executor that asks for the workers when it has cells, and for new ones after these were lost."""

    address: str
    subject: Subject

    def map_unordered(
        self, cells: Sequence[WorkCell[Any]], progress: Progress | None = None
    ) -> Iterator[tuple[str, Answer]]:
        """See `Executor`."""
        try:
            yield from workers(self.address, settings().device).on(self.subject).map_unordered(cells, progress)
        except ClusterError:
            workers.clear()
            raise


def executor(bench: Bench, view: View) -> Executor | None:
    """The executor of a view's model and the bench's task; None if the settings name no cluster."""
    address = settings().cluster
    return None if address is None else _Workers(address, ModelAndTask.of(view, bench.task))
