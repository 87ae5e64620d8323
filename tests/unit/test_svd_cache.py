"""The cache finds entries by content, notices damage, and does without a disk."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import explorer.spectra.cache as module
import explorer.spectra.pack as pack_module
import explorer.spectra.saver as saver_module
from explorer.attribution import score
from explorer.core.errors import MatrixError, ModelError, Stopped
from explorer.core.keys import Kind, MatrixKey
from explorer.models import Model, View, load
from explorer.models.matrices import matrices, read, read_base, replace
from explorer.spectra.cache import SvdCache, default_cache, default_store
from explorer.spectra.svd import Decomposition, Stack, decompose, decompose_stack
from explorer.tasks import Task
from tests import tiny

KEY = MatrixKey(0, Kind.K, 1)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the matrices that were really decomposed."""
    shapes: list[tuple[int, ...]] = []

    def counting(matrices: Sequence[torch.Tensor]) -> Stack:
        shapes.extend(tuple(W.shape) for W in matrices)
        return decompose_stack(matrices)

    monkeypatch.setattr(module, "decompose_stack", counting)
    return shapes


def same(first: Decomposition, second: Decomposition) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("u", "s", "vh"))


def entries(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir())
    assert all(path.suffix == ".safetensors" and not path.name.startswith(".") for path in found)
    return found


def no_notice(message: str) -> None:
    raise AssertionError(f"unexpected notice: {message}")


def test_a_decomposition_is_computed_once_and_found_again(
    view: View, tmp_path: Path, computed: list[tuple[int, ...]]
) -> None:
    first = SvdCache(tmp_path, no_notice)
    found = first.get(view, KEY)
    assert first.get(view, KEY) is found
    assert same(SvdCache(tmp_path, no_notice).get(view, KEY), found)
    assert len(computed) == len(entries(tmp_path)) == 1
    assert same(found, decompose(read(view, KEY)))


def test_it_is_the_base_that_is_decomposed_whatever_the_view_carries(view: View, tmp_path: Path) -> None:
    clean = SvdCache(None).get(view, KEY)
    replace(view, KEY, torch.zeros_like(read(view, KEY)))
    assert same(SvdCache(tmp_path).get(view, KEY), clean)


def test_equal_weights_under_another_name_are_found(
    arch: str, folder: Path, view: View, tmp_path: Path, computed: list[tuple[int, ...]]
) -> None:
    copy = tmp_path / "another-name"
    shutil.copytree(folder, copy)
    SvdCache(tmp_path / "svd", no_notice).get(view, KEY)
    SvdCache(tmp_path / "svd", no_notice).get(load(str(copy), dtype="float32").view(), KEY)
    assert len(computed) == 1


def test_one_changed_bit_is_another_matrix(
    arch: str, folder: Path, view: View, tmp_path: Path, computed: list[tuple[int, ...]]
) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(folder, tuned)
    weights = load_file(tuned / "model.safetensors")
    name = {"gpt2": "transformer.h.0.attn.c_attn.weight", "llama": "model.layers.0.self_attn.k_proj.weight"}[arch]
    place = (3, 12 + 5) if arch == "gpt2" else (7, 3)  # inside K head 1
    bits = weights[name].view(torch.int32)
    bits[place] ^= 1
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    SvdCache(tmp_path / "svd", no_notice).get(view, KEY)
    other = load(str(tuned), dtype="float32").view()
    SvdCache(tmp_path / "svd", no_notice).get(other, KEY)
    assert len(computed) == len(entries(tmp_path / "svd")) == 2


def test_types_do_not_share_entries(model: Model, model64: Model, tmp_path: Path) -> None:
    cache = SvdCache(tmp_path, no_notice)
    assert cache.get(model.view(), KEY).u.dtype is torch.float32
    assert cache.get(model64.view(), KEY).u.dtype is torch.float64
    assert len(entries(tmp_path)) == 2


def test_bases_do_not_share_entries(view: View, tmp_path: Path, computed: list[tuple[int, ...]]) -> None:
    folded = changed(view.model, basis="folded").view()
    for one in (view, folded, view, folded):
        SvdCache(tmp_path, no_notice).get(one, KEY)
    assert len(computed) == len(entries(tmp_path)) == 2


def test_many_at_once_are_what_each_is_alone(view: View, tmp_path: Path, computed: list[tuple[int, ...]]) -> None:
    keys = tuple(dict.fromkeys((*matrices(view), *matrices(view, per_head=False))))[::-1]
    seen: list[tuple[int, int]] = []
    found = SvdCache(tmp_path, no_notice).get_many(view, keys, lambda done, total: seen.append((done, total)))
    assert tuple(found) == keys
    assert len(computed) == len(set(keys))
    assert len(entries(tmp_path)) == 1
    assert seen[0] == (0, seen[0][1])
    assert seen[-1][0] == seen[-1][1]
    assert seen == sorted(seen)
    for key in keys:
        alone = decompose(read(view, key))
        torch.testing.assert_close(found[key].s, alone.s, rtol=1e-7, atol=1e-12)
        torch.testing.assert_close(found[key].recompose(), read(view, key), rtol=0, atol=1e-6)
    again = SvdCache(tmp_path, no_notice)
    assert all(same(again.get(view, key), found[key]) for key in keys)
    assert len(computed) == len(set(keys))


def test_only_what_is_missing_is_computed(view: View, tmp_path: Path, computed: list[tuple[int, ...]]) -> None:
    keys = matrices(view, [Kind.K])
    first = SvdCache(tmp_path, no_notice)
    kept = first.get(view, keys[1])
    assert first.get_many(view, keys)[keys[1]] is kept
    assert len(computed) == len(keys)
    assert same(SvdCache(tmp_path, no_notice).get_many(view, keys)[keys[1]], kept)
    assert len(computed) == len(keys)


def test_what_is_missing_is_named_without_being_computed(
    view: View, tmp_path: Path, computed: list[tuple[int, ...]]
) -> None:
    keys = matrices(view, [Kind.K])
    cache = SvdCache(tmp_path, no_notice)
    assert cache.missing(view, keys) == keys
    cache.get_many(view, keys[1:3])
    assert cache.missing(view, keys) == SvdCache(tmp_path, no_notice).missing(view, keys) == (keys[0], *keys[3:])
    assert SvdCache(None).missing(view, keys) == ()
    assert len(computed) == 2


def test_scoring_keeps_all_it_decomposes_in_few_files(view: View, tiny_task: Task, tmp_path: Path) -> None:
    score(view, tiny_task, SvdCache(tmp_path, no_notice), matrices(view), scorer="random")
    assert len(entries(tmp_path)) == 1


def test_what_was_computed_before_a_stop_is_kept(view: View, tmp_path: Path, computed: list[tuple[int, ...]]) -> None:
    keys = matrices(view, [Kind.K])

    def stop(done: int, total: int) -> None:
        if len(computed) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        SvdCache(tmp_path, no_notice, job_bytes=1).get_many(view, keys, stop)  # one matrix at a time
    assert len(computed) == 3
    SvdCache(tmp_path, no_notice).get_many(view, keys)
    assert len(computed) == len(keys)


def test_large_work_is_saved_as_it_goes(
    view: View, tmp_path: Path, computed: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver_module, "FILE_BYTES", 1)
    keys = matrices(view, [Kind.K])
    found = SvdCache(tmp_path, no_notice, job_bytes=1).get_many(view, keys)
    assert len(entries(tmp_path)) == len(keys)
    again = SvdCache(tmp_path, no_notice).get_many(view, keys)
    assert all(same(again[key], found[key]) for key in keys)
    assert len(computed) == len(keys)


def own(d: Decomposition) -> Decomposition:
    """A copy that is not mapped: writing into a mapped file changes, or ends, whoever uses it."""
    return Decomposition(d.u.clone(), d.s.clone(), d.vh.clone())


def damaged(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "header cut": lambda content: content[:5],
    "last byte": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "text": lambda content: b"not a safetensors file",
    "other type": lambda content: content.replace(b"F32", b"I32", 1),
    "shape turned": lambda content: content.replace(b"[1,12,4]", b"[1,4,12]").replace(b"[1,16,6]", b"[1,6,16]"),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_entry_is_noticed_told_and_computed_again(
    view: View, tmp_path: Path, computed: list[tuple[int, ...]], kind: str
) -> None:
    good = own(SvdCache(tmp_path).get(view, KEY))
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    damaged(path, DAMAGE[kind])
    assert path.read_bytes() != whole
    told: list[str] = []
    assert same(SvdCache(tmp_path, told.append).get(view, KEY), good)
    assert told == ["Cached decompositions were damaged: what is missing now is computed again."]
    assert len(computed) == 2
    assert same(SvdCache(tmp_path, no_notice).get(view, KEY), good), "the repaired entry must be good"
    assert len(computed) == 2
    assert entries(tmp_path) == [path]


def test_an_entry_of_another_format_is_not_used(view: View, tmp_path: Path, computed: list[tuple[int, ...]]) -> None:
    SvdCache(tmp_path).get(view, KEY)
    (path,) = entries(tmp_path)
    save_file(load_file(path), path, metadata={"format": "svd-0"})
    SvdCache(tmp_path, lambda message: None).get(view, KEY)
    assert len(computed) == 2


def test_a_folder_that_cannot_be_made_is_told_once_and_done_without(view: View, tmp_path: Path) -> None:
    (tmp_path / "svd").write_text("a file where the folder should be")
    told: list[str] = []
    cache = SvdCache(tmp_path / "svd", told.append)
    for key in matrices(view, layers=[0]):
        assert same(cache.get(view, key), SvdCache(None).get(view, key))
    assert len(told) == 1
    assert told[0].startswith(f"Decompositions cannot be kept in {tmp_path / 'svd'} (")
    assert told[0].endswith("; working without that cache.")
    assert [path.name for path in tmp_path.iterdir()] == ["svd"]


def test_a_full_disk_is_told_once_even_to_many_threads(
    view: View, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4, timeout=60)  # no thread knows of another's failure before its own

    def full_for_all(*arguments: Any, **options: Any) -> None:
        together.wait()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack_module, "save_file", full_for_all)
    told: list[str] = []
    cache = SvdCache(tmp_path, told.append)
    keys = matrices(view)
    found: dict[MatrixKey, Decomposition] = {}

    def work(own: View, some: tuple[MatrixKey, ...]) -> None:
        found.update({key: cache.get(own, key) for key in some})

    threads = [threading.Thread(target=work, args=(model.view(), keys[i::4])) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(found[key], decompose(read(view, key))) for key in keys)
    assert told == [
        f"Decompositions cannot be kept in {tmp_path} (No space left on device); working without that cache."
    ]
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_to_tell_it_is_a_warning(view: View, tmp_path: Path) -> None:
    (tmp_path / "svd").write_text("")
    with pytest.warns(UserWarning, match="working without that cache"):
        SvdCache(tmp_path / "svd").get(view, KEY)


def test_memory_is_bounded(view: View, computed: list[tuple[int, ...]]) -> None:
    keys = matrices(view, [Kind.K])
    one = sum(tensor.nbytes for tensor in vars(SvdCache(None).get(view, keys[0])).values())
    computed.clear()
    cache = SvdCache(None, memory_bytes=2 * one)
    for key in (keys[0], keys[1], keys[0], keys[2], keys[0]):
        cache.get(view, key)
    assert len(computed) == 3, "the one used last stays"
    cache.get(view, keys[1])
    assert len(computed) == 4, "the one not used for longest had to go"


def test_weights_that_are_no_numbers_are_a_sentence(tmp_path: Path) -> None:
    """No file with such weights is loaded, so they become so in memory."""
    view = load(str(tiny.save("llama", tmp_path / "own"))).view()
    with torch.no_grad():
        read_base(view, MatrixKey(0, Kind.K, 0))[0, 0] = float("nan")
    cache = SvdCache(tmp_path / "svd", no_notice)
    with pytest.raises(ModelError, match=r"L0\.K\.H0 cannot be decomposed: .* NaN or infinite weights; check"):
        cache.get(view, MatrixKey(0, Kind.K, 0))
    assert cache.get(view, MatrixKey(0, Kind.K, 1)).rank == 6
    with pytest.raises(MatrixError, match="layer 9 is out of range"):
        cache.get(view, MatrixKey(9, Kind.K))


def test_the_default_cache_lies_in_the_settings_folder(view: View, own_folders: Path) -> None:
    default_store().clear()  # other tests damage entries there
    default_cache(no_notice).get(view, KEY)
    assert entries(own_folders / "cache" / "svd")
