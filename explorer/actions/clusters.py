"""Where the independent cells of a request are measured: this process, or workers that `--cluster` names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from explorer.actions.request import Tools
from explorer.core.config import settings
from explorer.core.executor import Executor, Subject

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.tasks import Task

Executors = Callable[[Subject], Executor]


def check_cluster(cluster: str | None) -> str | None:
    """The address that was given, else the settings'; None for this process.

    Raises:
        ClusterError: it is no address, or Ray is not installed.
    """
    chosen = settings().cluster if cluster is None else cluster
    if chosen is not None:
        from explorer.experiments.cluster.address import ClusterAddress, check_ray

        ClusterAddress.parse(chosen)
        check_ray()
    return chosen


@contextmanager
def workers(cluster: str | None, device: str | None, tools: Tools) -> Iterator[Executors | None]:
    """What makes executors of subjects; None where this process does all itself.

    Args:
        cluster: as `check_cluster` takes it.
        device: torch device that was asked for; on `cuda` each worker gets a GPU of its own.
        tools: what the request works with; workers that are there already are used.

    Raises:
        ClusterError: the cluster cannot be reached.
    """
    if tools.executors is not None:
        yield tools.executors
        return
    chosen = check_cluster(cluster)
    if chosen is None:
        yield None
        return
    from explorer.experiments.cluster.address import ClusterAddress, takes_gpu
    from explorer.experiments.cluster.workers import connect

    with tools.working(f"Starting the workers of {chosen}"):
        found = connect(ClusterAddress.parse(chosen), gpus=takes_gpu(device or settings().device))
    try:
        yield found.on
    finally:
        found.close()


def executor_of(executors: Executors | None, view: View, task: Task) -> Executor | None:
    """The executor of a model with a task; None for this process."""
    if executors is None:
        return None
    from explorer.measure.opened import ModelAndTask

    return executors(ModelAndTask.of(view, task))
