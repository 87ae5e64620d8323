"""Workers of Ray, for real: two on this machine give the bits of one process, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.actions import Curve, ModelChoice, Reproduce, Search, StudyScorers, TaskChoice
from explorer.actions.request import Tools
from explorer.core.errors import ClusterError, Stopped
from explorer.experiments.cluster.address import ClusterAddress
from explorer.experiments.cluster.workers import RayCluster, connected
from explorer.masks.apply import empty_mask
from explorer.measure.opened import ModelAndTask
from explorer.models import Model
from explorer.search.mask_cells import MaskCell
from explorer.tasks import load_task
from tests.crew import pids
from tests.unit.reproduce.recipes import QUICK, write

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
MODEL, TASK = ModelChoice("bundled"), TaskChoice(task="int-mult")
STUDY = StudyScorers(model=MODEL, task=TASK, kinds="Q,K", per_kind=80, extremes=3, limit=16)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with connected(ClusterAddress.parse("local:2")) as found:
        assert found.size == 2
        yield found


@pytest.fixture(autouse=True)
def own(isolated_folders: Path) -> None:
    """Cache and workspace for these tests."""


def on(cluster: RayCluster, **given: Any) -> Tools:
    return Tools(executors=cluster.on, **given)


def watched(tell: Callable[[int, int], None]) -> Any:
    """For `Tools.working`: the progress of exact effects is told here."""

    @contextmanager
    def working(what: str) -> Iterator[Callable[[int, int], None]]:
        yield tell if what == "Measuring exact effects" else lambda done, total: None

    return working


def fresh(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing is known of before."""
    from explorer.core.config import settings

    monkeypatch.setenv("EIGENPRUNE_CACHE", str(folder))
    settings.cache_clear()


def test_a_study_has_the_bits_of_this_process(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh(monkeypatch, tmp_path / "here")
    wanted = STUDY.run()
    fresh(monkeypatch, tmp_path / "apart")
    told: list[tuple[int, int]] = []
    found = STUDY.run(on(cluster, working=watched(lambda *one: told.append(one))))
    assert found.as_json() == wanted.as_json()
    shares = [done / total for done, total in told if total > 1]
    assert shares[-1] == 1.0
    assert len({share for share in shares if 0.3 < share < 0.8}) >= 3, "effects come cell by cell"


def test_a_curve_has_the_bits_of_this_process(cluster: RayCluster) -> None:
    curve = Curve(model=MODEL, task=TASK, kinds="Q,K", limit=16, counts="0,1,2,4,8", eval_limit=20)
    assert curve.run(on(cluster)).as_json() == curve.run().as_json()


def test_a_search_has_the_controls_of_this_process(cluster: RayCluster, tmp_path: Path) -> None:
    search = Search(
        model=MODEL, task=TASK, out=tmp_path / "mask.json", strategy="paper", kinds="K", limit=16, max_removed="6",
        controls=4, test_limit=16, text="none",
    )  # fmt: skip
    here, apart = search.run().as_dict(), replace(search, fresh=True).run(on(cluster)).as_dict()
    assert here["controls"] == apart["controls"]
    assert here["controls"]["random-per-matrix"]["draws"] == 4
    for found in (here, apart):
        found.pop("seconds")
    assert here == apart


def test_recipes_have_the_cells_of_this_process(cluster: RayCluster, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        seeded = QUICK.replace("control_draws = 2", f"control_draws = 2\nseed = {seed}")
        write(tmp_path / "suite", seeded, name=f"quick-{seed}")
    suite = Reproduce(suite=str(tmp_path / "suite"), out=tmp_path / "here")
    here = suite.run()
    apart = replace(suite, out=tmp_path / "apart").run(on(cluster))
    assert apart.missing == 0  # type: ignore[union-attr]
    for one, other in zip(here.entries, apart.entries, strict=True):  # type: ignore[union-attr]
        assert replace(one.cell, seconds=0.0) == replace(other.cell, seconds=0.0)  # type: ignore[type-var]
        assert other.cell.device == "cpu"
    kept = replace(suite, out=tmp_path / "apart").run(on(cluster))
    assert all(one.kept for one in kept.entries)  # type: ignore[union-attr]


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh(monkeypatch, tmp_path / "here")
    wanted = STUDY.run()
    fresh(monkeypatch, tmp_path / "apart")
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if total > 1 and done / total > 0.35 and not killed:
            killed.append(min(pids(os.getpid())))
            os.kill(killed[0], signal.SIGKILL)

    assert STUDY.run(on(cluster, working=watched(kill))).as_json() == wanted.as_json()
    assert len(killed) == 1
    assert killed[0] not in pids(os.getpid())


def test_stop_ends_the_work_soon_and_what_was_measured_stays(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh(monkeypatch, tmp_path)
    stopped: list[float] = []

    def stop(done: int, total: int) -> None:
        if total > 1 and done / total > 0.4:
            stopped.append(time.monotonic())
            raise Stopped

    with pytest.raises(Stopped):
        STUDY.run(on(cluster, working=watched(stop)))
    assert time.monotonic() - stopped[0] < 5
    known = entries(tmp_path)
    assert known > 0
    found = STUDY.run(on(cluster))  # the workers are there again
    assert known < entries(tmp_path) == found.sampled
    fresh(monkeypatch, tmp_path / "here")
    assert STUDY.run().as_json() == found.as_json()


def entries(cache: Path) -> int:
    path = cache / "effects.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as db:
        there = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'effects'").fetchone()[0]
        return int(db.execute("SELECT count(*) FROM effects").fetchone()[0]) if there else 0


def test_a_driver_that_is_killed_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh(monkeypatch, tmp_path / "here")
    study = replace(STUDY, per_kind=200)
    wanted = study.run()
    cache = tmp_path / "apart"
    words = [sys.executable, "-m", "explorer", *study.command.split(), *study.words(), "--cluster", "local:2", "--json"]
    settings = {**os.environ, "EIGENPRUNE_CACHE": str(cache)}
    with subprocess.Popen(words, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            end = time.monotonic() + 200
            while entries(cache) < 8:
                assert process.poll() is None, process.stderr
                assert time.monotonic() < end
                time.sleep(0.02)
            workers = pids(process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
    known = entries(cache)
    assert known < entries(tmp_path / "here") == wanted.sampled
    assert workers
    again = subprocess.run(words, env=settings, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(again.stdout) == json.loads(wanted.as_json())
    assert entries(cache) == wanted.sampled
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()], "workers end with their driver"


def test_two_pieces_of_work_take_turns(cluster: RayCluster, bundled: Model) -> None:
    executor = cluster.on(ModelAndTask.of(bundled.view(), load_task("int-mult", 0)))
    cells = [MaskCell(empty_mask(bundled), "test", limit) for limit in range(1, 7)]
    found: list[dict[str, Any]] = []

    def ask() -> None:
        found.append({digest: answer.values for digest, answer in executor.map_unordered(cells)})

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=200)
    assert found[0] == found[1]
    assert [len(found[0][cell.digest]["loss"]) for cell in cells] == [1, 2, 3, 4, 5, 6]


def test_a_cell_that_its_workers_die_of_ends_the_work_in_a_sentence(
    cluster: RayCluster, bundled: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins it is killed, time and again; afterwards the workers are there as before."""
    executor = cluster.on(ModelAndTask.of(bundled.view(), load_task("int-mult", 0)))
    cells = [MaskCell(empty_mask(bundled), split, limit) for split in ("train", "test") for limit in range(1, 81)]
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for pid in pids(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(
            ClusterError, match=r"^workers of the cluster died of one cell 4 times, or cannot be reached"
        ):
            list(executor.map_unordered(cells))
    finally:
        over.set()
        killer.join(timeout=60)
    assert len(dict(executor.map_unordered(cells))) == len(cells)


def test_workers_that_others_have_are_not_waited_for(cluster: RayCluster) -> None:
    with (
        pytest.raises(ClusterError, match=r"^the cluster has no CPU for workers, or all of them are taken: "),
        connected(ClusterAddress.parse("local:2")),
    ):
        pass


def test_gpus_that_are_not_there_are_said_to_be_missing(cluster: RayCluster) -> None:
    with (
        pytest.raises(ClusterError, match=r"^the cluster has no GPU for workers, or all of them are taken: "),
        connected(ClusterAddress.parse("local:2"), gpus=True),
    ):
        pass


# ---- a cluster that runs already


def packages(folder: Path, *, without: str = "") -> Path:
    """All that is installed here, but for what has this in its name, for a Python that has nothing."""
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not (without and without in path.name) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


def same(folder: Path) -> Path:
    (packages(folder) / "explorer").symlink_to(ROOT / "explorer")
    return folder


def other_code(folder: Path) -> Path:
    shutil.copytree(ROOT / "explorer", packages(folder) / "explorer", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "explorer" / "measure" / "metrics.py").open("a") as file:
        file.write("# changed\n")
    return folder


def other_version(folder: Path) -> Path:
    (packages(folder, without="eigenprune") / "explorer").symlink_to(ROOT / "explorer")
    about = folder / "eigenprune_explorer-0.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: eigenprune-explorer\nVersion: 0.0.1\n")
    return folder


def no_package(folder: Path) -> Path:
    return packages(folder, without="eigenprune")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def head(installed: Path) -> Iterator[str]:
    """The address of a cluster on this machine whose Python has only what is in a folder."""
    port = free_port()
    command = [
        sys._base_executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0", "--num-cpus=2",  # type: ignore[attr-defined]
        f"--ray-client-server-port={port}", "--include-dashboard=false", "--object-store-memory=100000000",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(installed), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=installed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            end = time.monotonic() + 100
            while time.monotonic() < end:
                assert process.poll() is None
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.2)
            yield f"ray://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def command(address: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """A study in a process of its own."""
    words = [sys.executable, "-m", "explorer", *STUDY.command.split(), *STUDY.words(), "--cluster", address, "--json"]
    env = {**os.environ, "EIGENPRUNE_CACHE": str(cache)}
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_a_cluster_that_runs_already_gives_the_bits_of_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh(monkeypatch, tmp_path / "here")
    wanted = STUDY.run()
    with head(same(tmp_path / "packages")) as address:
        for cache in ("first", "second"):  # workers go with who asked for them, the cluster stays
            found = command(address, tmp_path / cache)
            assert found.returncode == 0, found.stderr
            assert json.loads(found.stdout) == json.loads(wanted.as_json())


@pytest.mark.parametrize(
    ("install", "said"),
    [
        (no_package, r"the worker on [\w.-]+ has no eigenprune-explorer: install [\w. ]+ there, which is here\."),
        (
            other_version,
            r"the worker on [\w.-]+ has eigenprune-explorer 0\.0\.1, this machine [\w. ]+: install the same.*",
        ),
        (other_code, r"the worker on [\w.-]+ has other code of eigenprune-explorer .*: install the same on both\."),
    ],
)
def test_a_worker_with_something_else_installed_is_refused_in_a_sentence(
    tmp_path: Path, install: Callable[[Path], Path], said: str
) -> None:
    with head(install(tmp_path / "packages")) as address:
        found = command(address, tmp_path / "cache")
    assert (found.returncode, found.stdout) == (2, "")
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert re.fullmatch(f"Error: {said}", line)
    assert "Traceback" not in found.stderr


def test_a_cluster_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    found = command(f"ray://127.0.0.1:{free_port()}", tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert "cannot be reached" in line
    assert "Traceback" not in found.stderr
