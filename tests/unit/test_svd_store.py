"""The folder of decompositions stays within its limit, and whole whatever happens to the processes that share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.spectra.pack import NamedStack
from explorer.spectra.store import LEFTOVER_AGE, SvdStore
from explorer.spectra.svd import Decomposition, decompose, decompose_stack

AMPLE = 10**9
OWNER = "sha256:0123 raw"


def matrix(seed: int) -> torch.Tensor:
    return torch.randn(12, 8, generator=torch.Generator().manual_seed(seed))


def name(seed: int) -> str:
    return f"L{seed}.Q"


def fill(store: SvdStore, seeds: range) -> None:
    """A file for every seed."""
    for seed in seeds:
        store.save(OWNER, [NamedStack((name(seed),), decompose_stack([matrix(seed)]))])


def found(store: SvdStore, seed: int) -> Decomposition | None:
    decompositions, damaged = store.find(OWNER, [name(seed)])
    assert not damaged
    return decompositions.get(name(seed))


def file_of(folder: Path, seed: int) -> Path:
    (path,) = [path for path in folder.glob("*.safetensors") if f'\\"{name(seed)}\\"'.encode() in path.read_bytes()]
    return path


def entry_size(folder: Path) -> int:
    store = SvdStore(folder, AMPLE)
    fill(store, range(1))
    return store.info().bytes


def test_what_is_saved_is_found_under_its_owner_and_name(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(3))
    again = found(SvdStore(tmp_path, AMPLE), 1)
    assert again is not None
    for what in ("u", "s", "vh"):
        assert torch.equal(getattr(again, what), getattr(decompose(matrix(1)), what))
    assert found(store, 9) is None
    assert store.find("sha256:0123 folded", [name(1)]) == ({}, False)
    assert store.info().entries == 3


def test_many_of_several_shapes_share_a_file(tmp_path: Path) -> None:
    tall, wide = decompose_stack([matrix(0), matrix(1)]), decompose_stack([matrix(2).T])
    SvdStore(tmp_path, AMPLE).save(OWNER, [NamedStack((name(0), name(1)), tall), NamedStack((name(2),), wide)])
    store = SvdStore(tmp_path, AMPLE)
    several, damaged = store.find(OWNER, [name(2), name(1), name(7)])
    assert (set(several), damaged) == ({name(0), name(1), name(2)}, False), "0 lies beside 1"
    assert set(SvdStore(tmp_path, AMPLE).find(OWNER, [name(2)])[0]) == {name(2)}
    assert torch.equal(several[name(1)].u, tall[1].u)
    assert torch.equal(several[name(2)].vh, wide[0].vh)
    assert store.info().entries == 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_files_are_mapped_and_what_is_written_to_a_tensor_stays_private(tmp_path: Path) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(1))
    before = file_of(tmp_path, 0).read_bytes()
    one = found(SvdStore(tmp_path, AMPLE), 0)
    assert one is not None
    assert str(file_of(tmp_path, 0)) in Path("/proc/self/maps").read_text(encoding="utf-8")
    one.u.zero_()
    assert file_of(tmp_path, 0).read_bytes() == before


def test_what_another_process_saves_later_is_seen(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    assert found(store, 0) is None
    fill(SvdStore(tmp_path, AMPLE), range(1))
    assert found(store, 0) is not None


def test_what_another_process_removes_is_gone_but_not_damaged(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(1))
    held = found(store, 0)
    SvdStore(tmp_path, AMPLE).clear()
    assert found(store, 0) is None
    assert held is not None
    assert torch.equal(held.u, decompose(matrix(0)).u)  # whoever holds it keeps it


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_is_mapped_only_while_somebody_holds_what_is_in_it(tmp_path: Path) -> None:
    store = SvdStore(tmp_path, AMPLE)
    fill(store, range(1))
    held = found(store, 0)
    assert str(tmp_path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    del held
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "size")
    store = SvdStore(tmp_path / "svd", limit=AMPLE)
    fill(store, range(4))
    for age, seed in enumerate((3, 0, 2, 1)):  # 1 was used last, long ago
        os.utime(file_of(tmp_path / "svd", seed), (1e9 + age, 1e9 + age))
    assert found(store, 3) is not None  # now the most recently used
    small = SvdStore(tmp_path / "svd", limit=2 * size)
    assert small.evict() == 2
    assert [seed for seed in range(4) if found(small, seed) is not None] == [1, 3]


def test_saving_keeps_to_the_limit(tmp_path: Path) -> None:
    size = entry_size(tmp_path / "size")
    store = SvdStore(tmp_path / "svd", limit=3 * size)
    fill(store, range(10))
    assert store.info().entries <= 3
    assert found(store, 9) is not None


def test_verify_removes_what_is_damaged_and_nothing_else(tmp_path: Path) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(4))
    path = file_of(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    store = SvdStore(tmp_path, AMPLE)
    seen: list[tuple[int, int]] = []
    assert store.verify(lambda done, total: seen.append((done, total))) == 1
    assert seen[-1] == (4, 4)
    assert found(store, 2) is None
    assert store.info().entries == 3
    assert store.verify() == 0


def test_a_damaged_file_is_told_and_given_up(tmp_path: Path) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(2))
    path = file_of(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    store = SvdStore(tmp_path, AMPLE)
    assert store.find(OWNER, [name(1)]) == ({}, True)
    assert not path.exists()
    assert found(store, 1) is None
    assert found(store, 0) is not None
    fill(store, range(1, 2))
    assert found(store, 1) is not None


def test_no_single_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(1))
    path, good = file_of(tmp_path, 0), decompose(matrix(0))
    whole, generator, taken = path.read_bytes(), np.random.default_rng(0), 0
    for position in range(len(whole)):
        flipped = whole[position] ^ int(generator.integers(1, 256))
        path.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
        for one in SvdStore(tmp_path, AMPLE).find(OWNER, [name(0)])[0].values():
            assert all(torch.equal(getattr(one, what), getattr(good, what)) for what in ("u", "s", "vh")), position
            taken += 1
    assert taken < 10, "such as in the spaces that fill up the header"


def test_no_truncated_file_is_used(tmp_path: Path) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(1))
    path = file_of(tmp_path, 0)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert SvdStore(tmp_path, AMPLE).find(OWNER, [name(0)])[0] == {}


@pytest.mark.parametrize(
    "swap",
    [(b'\\"L0.Q\\"', b'\\"L1.Q\\"'), (OWNER.encode(), b"sha256:0124 raw"), (b"svd-2", b"svd-1")],
    ids=["name", "owner", "format"],
)
def test_what_a_file_says_of_itself_is_part_of_the_check(tmp_path: Path, swap: tuple[bytes, bytes]) -> None:
    fill(SvdStore(tmp_path, AMPLE), range(1))
    path = file_of(tmp_path, 0)
    assert swap[0] in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(*swap))
    for seed in (0, 1):
        assert SvdStore(tmp_path, AMPLE).find(OWNER, [name(seed)])[0] == {}
    fill(store := SvdStore(tmp_path, AMPLE), range(1))
    assert found(store, 0) is not None


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
from explorer.spectra.svd import decompose_stack
from explorer.spectra.pack import NamedStack
from explorer.spectra.store import SvdStore
import torch
store = SvdStore(Path(sys.argv[1]), int(sys.argv[3]))
for seed in range(int(sys.argv[2])):
    W = torch.randn(60, 40, generator=torch.Generator().manual_seed(seed))
    store.save("owner", [NamedStack((f"L{seed}.Q",), decompose_stack([W]))])
    if seed == 0:
        print("writing", flush=True)
"""


def writer(folder: Path, count: int, limit: int = AMPLE) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(count), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
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


@pytest.mark.slow
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
