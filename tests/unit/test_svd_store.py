"""The folder of decompositions stays within its limit, and whole whatever happens to the processes that share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from explorer.svd import decompose
from explorer.svd_store import LEFTOVER_AGE, Damaged, SvdStore

AMPLE = 10**9


def matrix(seed: int) -> torch.Tensor:
    return torch.randn(12, 8, generator=torch.Generator().manual_seed(seed))


def fill(store: SvdStore, seeds: range) -> None:
    for seed in seeds:
        store.save(matrix(seed), decompose(matrix(seed)))


def entry_size(folder: Path) -> int:
    store = SvdStore(folder, AMPLE)
    fill(store, range(1))
    return store.info().bytes


def test_what_is_saved_is_found_by_its_content(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(3))
    found = SvdStore(tmp_path, AMPLE).load(matrix(1))
    assert found is not None
    assert torch.equal(found.vh, decompose(matrix(1)).vh)
    assert store.load(matrix(9)) is None
    assert store.info().entries == 3


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "size")
    store = SvdStore(tmp_path / "svd", limit=AMPLE)
    fill(store, range(4))
    for age, seed in enumerate((3, 0, 2, 1)):  # 1 was used last, long ago
        os.utime(store._path(matrix(seed)), (1e9 + age, 1e9 + age))
    assert store.load(matrix(3)) is not None  # now the most recently used
    small = SvdStore(tmp_path / "svd", limit=2 * size)
    assert small.evict() == 2
    kept = [seed for seed in range(4) if store.load(matrix(seed)) is not None]
    assert kept == [1, 3]


def test_saving_keeps_to_the_limit(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "size")
    store = SvdStore(tmp_path / "svd", limit=3 * size)
    fill(store, range(10))
    assert store.info().entries <= 3
    assert store.load(matrix(9)) is not None


def test_verify_removes_what_is_damaged_and_nothing_else(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(4))
    path = store._path(matrix(2))
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(Damaged):
        store.load(matrix(2))
    seen: list[tuple[int, int]] = []
    assert store.verify(lambda done, total: seen.append((done, total))) == 1
    assert seen[-1] == (4, 4)
    assert store.load(matrix(2)) is None
    assert store.info().entries == 3
    assert store.verify() == 0


def test_clear_removes_everything_and_says_what(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(3))
    assert store.clear().entries == 3
    assert store.info().entries == 0
    assert SvdStore(tmp_path / "never made", AMPLE).clear().entries == 0


def test_left_over_files_go_but_not_those_of_running_processes(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(1))
    old, new = tmp_path / ".x.safetensors.a.tmp", tmp_path / ".x.safetensors.b.tmp"
    for path in (old, new):
        path.touch()
    long_ago = time.time() - 2 * LEFTOVER_AGE
    os.utime(old, (long_ago, long_ago))
    store.evict()
    assert not old.exists()
    assert new.exists()
    assert store.info().entries == 1


WRITER = """
import sys
from pathlib import Path
from explorer.svd import decompose
from explorer.svd_store import SvdStore
import torch
store = SvdStore(Path(sys.argv[1]), int(sys.argv[3]))
for seed in range(int(sys.argv[2])):
    W = torch.randn(60, 40, generator=torch.Generator().manual_seed(seed))
    store.save(W, decompose(W))
    if seed == 0:
        print("writing", flush=True)
"""


def writer(folder: Path, count: int, limit: int = AMPLE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(count), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_no_half_entry(tmp_path: Path) -> None:
    process = writer(tmp_path, 10**6)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = SvdStore(tmp_path, AMPLE)
    assert store.info().entries > 0
    assert store.verify() == 0


def test_processes_share_a_folder_and_its_limit(tmp_path: Path) -> None:
    limit = 200_000
    processes = [writer(tmp_path, 60, limit) for _ in range(2)]
    for process in processes:
        assert process.wait(timeout=120) == 0
        assert process.stdout is not None
        process.stdout.close()
    store = SvdStore(tmp_path, limit)
    assert store.verify() == 0
    store.evict()
    assert 0 < store.info().bytes <= limit
