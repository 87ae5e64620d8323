"""Ray's actors as a crew: each opens a subject once and answers many cells.

The class of the actors is made inside a function, so that Ray sends its code along: a machine without the package can
still say so. Cells, subjects and answers travel as text.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from explorer.core.errors import ClusterError, Stopped
from explorer.core.executor import Answer, Executor, Machine, Subject, WorkCell, distinct
from explorer.core.progress import Progress
from explorer.experiments.cluster.address import ClusterAddress, check_ray, usable_cores
from explorer.experiments.cluster.dispatch import POLL_SECONDS, dispatch
from explorer.experiments.cluster.worker import CODE, PACKAGE, installed, written

RESTARTS = -1  # a worker that died is started again, however often
RETRIES = 3  # a cell that its worker died of is tried again so often
CONNECT_SECONDS = 10.0
TRIES = 3
CHECK_SECONDS = 60.0  # a worker has imported torch by then
STORE_BYTES = 100 << 20  # of Ray's memory that processes share: subjects and answers are small


@contextmanager
def connected(address: ClusterAddress, *, gpus: bool = False) -> Iterator[RayCluster]:
    """The workers of an address, for the time of a `with` block.

    Raises:
        ClusterError: it cannot be reached, or has no GPU although the workers need one each.
    """
    cluster = connect(address, gpus=gpus)
    try:
        yield cluster
    finally:
        cluster.close()


def connect(address: ClusterAddress, *, gpus: bool = False) -> RayCluster:
    """Start workers; whoever asks for them closes them. Raises as `connected`.

    If this process is connected with a cluster already, its workers are started there.
    """
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody; read when Ray is imported
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    own = not ray.is_initialized()
    if own:
        _begin(address)
    what = "GPU" if gpus else "CPU"
    size = _free(what)
    if size < 1:
        if own:
            ray.shutdown()
        raise ClusterError(
            f"the cluster has no {what} for workers, or all of them are taken: add machines to it, wait, or choose "
            "another --device."
        )
    if address.workers is not None:
        size = min(size, address.workers)
    cluster = RayCluster(_actors(size, gpus=gpus), own=own)
    try:
        cluster.check()
    except ClusterError:
        cluster.close()
        raise
    return cluster


def _free(what: str) -> int:
    """How many CPUs or GPUs are not taken; those of work that has just ended are waited for."""
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    end = time.monotonic() + CONNECT_SECONDS
    while True:
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        if free.get(what, 0) >= total.get(what, 0) or time.monotonic() > end:
            return int(free.get(what, 0))
        time.sleep(POLL_SECONDS)


def _has_token() -> bool:
    """Whether this machine has the token of a cluster, which Ray's client does not look for by itself."""
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()


def _begin(address: ClusterAddress) -> None:
    """Connect this process with a cluster, or start one here. Raises ClusterError."""
    import logging

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if address.url is None:
                _start(address.workers or 1, quiet)
            else:
                _join(address.url, quiet)
    except Exception as error:  # each version fails in its own ways
        why = _reason(error)
        if address.url is None:
            raise ClusterError(f"Ray cannot be started here ({why}): leave --cluster out, or name a cluster.") from None
        raise ClusterError(
            f"the cluster {address.url} cannot be reached ({why}): start one with `ray start --head`, with the "
            "versions of Python and Ray that are installed here, and give its token in RAY_AUTH_TOKEN."
        ) from None


def _reason(error: Exception) -> str:
    """The last line of what an error says, which may be the traceback of another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")


def _join(url: str, quiet: Mapping[str, Any]) -> None:
    """Connect with a cluster; one that is just being started is asked again."""
    import ray

    host, port = url.removeprefix("ray://").rsplit(":", maxsplit=1)
    for left in reversed(range(TRIES)):
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
            pass  # Ray itself would try for half a minute
        try:
            ray.init(url, **quiet)
            return
        except Exception:
            if not left:
                raise
            time.sleep(CONNECT_SECONDS / TRIES)


def _start(workers: int, quiet: Mapping[str, Any]) -> None:
    """Start a cluster on this machine."""
    import ray

    package = Path(__file__).resolve().parents[3]  # of a checkout, too, that is not installed
    paths = [str(package), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // workers))
    start = partial(
        ray.init, "local", num_cpus=workers, include_dashboard=False, object_store_memory=STORE_BYTES,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": threads}}, **quiet,
    )  # fmt: skip
    _from_a_thread_that_stays(start)


def _from_a_thread_that_stays(start: Callable[[], object]) -> None:
    """Call from the main thread, or from one that never ends: what Ray starts dies with the thread that started it."""
    if threading.current_thread() is threading.main_thread():
        start()
        return
    started: Future[object] = Future()

    def stay() -> None:
        try:
            started.set_result(start())
        except BaseException as error:
            started.set_exception(error)
            return
        threading.Event().wait()

    threading.Thread(target=stay, name="ray", daemon=True).start()
    started.result()


def _actors(size: int, *, gpus: bool) -> tuple[Any, ...]:
    import ray

    options = {"num_cpus": 1, "num_gpus": int(gpus), "max_restarts": RESTARTS, "max_task_retries": RETRIES}
    actor = ray.remote(_worker_class())
    return tuple(actor.options(**options).remote() for _ in range(size))


def _worker_class() -> type[Any]:
    """The class of the actors; what it needs is imported where it runs."""

    class EigenpruneWorker:
        def answer(self, expected: dict[str, str], subject: str, cell: str) -> str:
            import json
            import socket
            from importlib.metadata import PackageNotFoundError, version

            import ray

            name = "eigenprune-explorer"
            try:
                from explorer.experiments.cluster.worker import answer

                text = answer(expected, subject, cell, stop=ray.get_runtime_context().is_canceled)
            except ImportError:
                try:
                    text = json.dumps({"unfit": {name: version(name)}})
                except PackageNotFoundError:
                    text = json.dumps({"unfit": {}})
            return json.dumps([socket.gethostname(), text])

    return EigenpruneWorker


@dataclass(frozen=True, eq=False)
class RayCrew:
    """Actors for cells of one subject; tickets are Ray's references."""

    actors: Sequence[Any]
    subject: Any

    @property
    def size(self) -> int:
        """How many actors."""
        return len(self.actors)

    def send(self, worker: int, cell: WorkCell[Any]) -> Hashable:
        """Call an actor."""
        return cast("Hashable", self.actors[worker].answer.remote(installed(), self.subject, written(cell)))

    def finished(self, tickets: Sequence[Hashable], seconds: float) -> Iterable[tuple[Hashable, str]]:
        """Answers that have come.

        Raises:
            ClusterError: a worker died of a cell again and again, or the cluster is gone.
        """
        import ray

        refs: list[Any] = list(tickets)
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        if not ready:
            return []
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        try:
            return list(zip(ready, ray.get(ready), strict=True))
        except ray.exceptions.RayTaskError:
            raise  # an error of ours: its traceback says where
        except (ray.exceptions.RayError, ConnectionError) as error:
            why = str(error).split("\n", maxsplit=1)[0][:200].rstrip(".")
            raise ClusterError(
                f"workers of the cluster died of one cell {RETRIES + 1} times, or cannot be reached any more ({why}): "
                "mostly memory was short; take fewer workers or larger machines, and start again: what is measured is "
                "kept."
            ) from None

    def cancel(self, tickets: Collection[Hashable]) -> None:
        """Tell the actors that these are not wanted any more; what they are at ends at its next sign of progress."""
        import ray

        for ticket in tickets:
            with suppress(Exception):  # done since, or the cluster is gone
                ray.cancel(cast("Any", ticket))


class RayCluster:
    """Workers that are there: one piece of work after the other.

    Args:
        actors: Ray's.
        own: whether Ray was started, or connected to, for these workers.
    """

    def __init__(self, actors: Sequence[Any], *, own: bool = True) -> None:
        self._actors, self._own = actors, own
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._actors)

    def on(self, subject: Subject) -> Executor:
        """An executor of cells that are about a subject."""
        return _OnCluster(self, subject)

    def check(self) -> None:
        """Ask every worker what it has installed, before anything slow begins; those that are slow come later.

        Raises:
            ClusterError: something else than this machine has.
        """
        import ray

        asked = [actor.answer.remote(installed(), "", "") for actor in self._actors]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=CHECK_SECONDS)
        for text in ray.get(ready):
            refuse(text)

    def close(self) -> None:
        """End the workers."""
        import ray

        for actor in self._actors:
            with suppress(Exception):  # gone with the cluster
                ray.kill(actor)
        if self._own:
            ray.shutdown()

    @contextmanager
    def crew(self, subject: Subject, progress: Progress | None) -> Iterator[RayCrew]:
        """All workers, once nobody else needs them."""
        import ray

        while not self._lock.acquire(timeout=POLL_SECONDS):
            if progress is not None:
                progress(0, 1)
        try:
            yield RayCrew(self._actors, ray.put(written(subject)))
        finally:
            self._lock.release()


@dataclass(frozen=True, eq=False)
class _OnCluster:
    """The workers of a cluster as an executor."""

    cluster: RayCluster
    subject: Subject

    def map_unordered(
        self, cells: Sequence[WorkCell[Any]], progress: Progress | None = None
    ) -> Iterator[tuple[str, Answer]]:
        """See `Executor`."""
        machines: list[Machine] = []
        with self.cluster.crew(self.subject, progress) as crew:
            for cell, text in dispatch(crew, distinct(cells), progress):
                found = read_answer(text)
                machines.append(found.machine)
                if self.subject.one_machine and found.machine != machines[0]:
                    raise ClusterError(
                        f"some workers measure {machines[0]}, others {found.machine}: their numbers differ in the last "
                        "digits and do not belong together; take machines of one kind."
                    )
                yield cell.digest, found


def read_answer(text: str) -> Answer:
    """The answer that a worker gave. Raises as `refuse`."""
    told = refuse(text)
    return Answer(told["values"], Machine(*told["machine"]))


def refuse(text: str) -> dict[str, Any]:
    """What a worker said.

    Raises:
        ClusterError: why it cannot answer.
        Stopped: it was told to stop.
    """
    node, said = json.loads(text)
    told: dict[str, Any] = json.loads(said)
    if "stopped" in told:
        raise Stopped
    if "refused" in told:
        raise ClusterError(f"the worker on {node}: {told['refused']}")
    if "unfit" in told:
        raise ClusterError(_unfit(node, told["unfit"]))
    return told


def _unfit(node: str, theirs: Mapping[str, str]) -> str:
    """What a worker's machine lacks, in a sentence."""
    own = installed()
    if PACKAGE not in theirs:
        return f"the worker on {node} has no {PACKAGE}: install {own[PACKAGE]} there, which is here."
    for name in own:
        if name != CODE and theirs.get(name, own[name]) != own[name]:
            return (
                f"the worker on {node} has {name} {theirs[name]}, this machine {own[name]}: install the same version "
                "on both."
            )
    return (
        f"the worker on {node} has other code of {PACKAGE} {theirs[PACKAGE]} than this machine: install the same on "
        "both."
    )
