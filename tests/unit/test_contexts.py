"""Contexts against plain transformers: every token of every sequence alone, projected by numpy, sorted in full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from explorer.attribution import score
from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.measure import contexts as measured
from explorer.measure.context_store import ContextStore, kept_contexts
from explorer.measure.contexts import TOP, contexts, direction_contexts
from explorer.measure.corpora import WINDOW, Corpus, task_corpus, text_corpus
from explorer.models import Model, View
from explorer.models.matrices import matrices
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import plain, tiny

TEXT = " ".join(f"w{(7 * i * i + i // 5) % 20}" for i in range(80))


@pytest.fixture(scope="module")
def text(model64: Model) -> Corpus:
    return text_corpus(model64, TEXT)


def read(model: Any, key: MatrixKey, corpus: Corpus) -> NDArray[np.float64]:
    """What a matrix reads at every token, one sequence after the other."""
    where, found = plain.site(model, key), []
    handle = where.module.register_forward_hook(lambda _, inputs, __: found.append(inputs[0][0, :, where.rows]))
    with torch.no_grad():
        for one in corpus.sequences:
            model(torch.tensor([one]))
    handle.remove()
    return np.concatenate([one.double().numpy() for one in found])


def values(model: Any, key: MatrixKey, corpus: Corpus) -> NDArray[np.float64]:
    """The products x . u_i [token, r]."""
    return read(model, key, corpus) @ plain.svd(model, key)[0]


def first_places(arch: str, key: MatrixKey, corpus: Corpus) -> list[int]:
    """Where something is read that was not read before."""
    names: list[tuple[Any, ...]] = []
    for one in corpus.sequences:
        for position, token in enumerate(one):
            if key.layer == 0 and key.kind in "QKV":
                names.append((token, position) if arch == "gpt2" else (token,))
            else:
                names.append(one[: position + 1])
    return [place for place, name in enumerate(names) if name not in names[:place]]


@pytest.mark.parametrize("per_head", [True, False])
def test_contexts_are_those_of_a_slow_pass(
    model64: Model, arch: str, plain64: Any, svds: SvdCache, text: Corpus, per_head: bool
) -> None:
    view = model64.view()
    keys = matrices(view, per_head=per_head)
    for key, found in contexts(view, text, svds, keys).items():
        every = values(plain64, key, text)
        some = every[first_places(arch, key, text)]
        order = np.sort(some, axis=0)
        close = {"atol": 1e-5, "rtol": 1e-5}
        np.testing.assert_allclose(found.largest, order[::-1][:TOP].T, **close)
        np.testing.assert_allclose(found.smallest, order[:TOP].T, **close)
        for at, extreme in ((found.largest_at, found.largest), (found.smallest_at, found.smallest)):
            np.testing.assert_allclose(np.take_along_axis(every.T, at.long().numpy(), axis=1), extreme, **close)
            assert set(at.flatten().tolist()) <= set(first_places(arch, key, text))
        np.testing.assert_allclose(found.mean, every.mean(axis=0), **close)
        np.testing.assert_allclose(found.deviation, every.std(axis=0), **close)
        levels = np.linspace(0, 1, measured.QUANTILES)
        np.testing.assert_allclose(found.quantiles, np.quantile(every, levels, axis=0).T, **close)


def test_tokens_around_a_context_have_their_own_values(
    model64: Model, plain64: Any, svds: SvdCache, text: Corpus, arch: str
) -> None:
    view, key, index = model64.view(), MatrixKey(1, Kind.O, 2), 3
    svd = svds.get(view, key)
    found = contexts(view, text, svds, [key])[key]
    told = direction_contexts(view, text, found, key, svd=svd, index=index, count=5)
    every = values(plain64, key, text)[:, index]
    ids = [token for one in text.sequences for token in one]
    ends = (found.largest_at[index, :5].tolist(), found.smallest_at[index, :5].tolist())
    for places, shown in zip(ends, (told.largest, told.smallest), strict=True):
        assert len(shown) == 5
        for place, one in zip(places, shown, strict=True):
            start = place - one.at
            around = range(start, start + len(one.tokens))
            assert [tiny.WORDS[ids[i]] for i in around] == list(one.tokens)
            np.testing.assert_allclose(one.values, every[list(around)], atol=1e-5)
            assert one.value == one.values[one.at]
            assert one.written == pytest.approx(one.value * float(svd.s[index]))
            assert one.begins == (ids[start] == 0)
    assert len(told.random) == measured.RANDOM
    assert all(min(told.quantiles) - 1e-5 <= one.value <= max(told.quantiles) + 1e-5 for one in told.random)


def test_the_mean_over_train_tokens_is_the_frozen_mean(view: View, svds: SvdCache, tiny_task: Task) -> None:
    keys = matrices(view)
    corpus = task_corpus(view.model, tiny_task)
    found = contexts(view, corpus, svds, keys)
    for key, one in score(view, tiny_task, svds, keys).matrices.items():
        np.testing.assert_allclose(found[key].mean, one.c, atol=1e-4)


def test_how_tokens_are_put_together_does_not_matter(
    view: View, svds: SvdCache, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, key = task_corpus(view.model, tiny_task), MatrixKey(1, Kind.IN)
    whole = contexts(view, corpus, svds, [key])[key]
    monkeypatch.setattr(measured, "TOKENS_AT_ONCE", 5)
    pieces = contexts(view, corpus, svds, [key])[key]
    for name, tensor in whole.tensors().items():
        if not name.endswith("_at"):
            np.testing.assert_allclose(pieces.tensors()[name], tensor, atol=1e-4)
    monkeypatch.setattr(measured, "SAMPLE", 3)
    few = contexts(view, corpus, svds, [key])[key]
    np.testing.assert_allclose(few.quantiles[:, [0, -1]], whole.quantiles[:, [0, -1]], atol=1e-4)
    assert few.tensors().keys() == whole.tensors().keys()


def test_corpora_hold_what_the_model_reads(model: Model, tiny_task: Task) -> None:
    asked = task_corpus(model, tiny_task)
    assert list(asked.sequences) == [tuple(plain.encode_words(one).read) for one in tiny_task.train]
    assert task_corpus(model, tiny_task, tokens=9).sequences == asked.sequences[:2]
    assert task_corpus(model, tiny_task, tokens=1).sequences == asked.sequences[:1]
    read = text_corpus(model, TEXT)
    assert {one[0] for one in read.sequences} == {0}
    assert max(map(len, read.sequences)) == min(WINDOW, tiny.POSITIONS)
    words = [tiny.WORDS[token] for one in read.sequences for token in one[1:]]
    assert " ".join(words) == TEXT
    assert [read.locate(place) for place in (0, 15, 16)] == [(0, 0), (0, 15), (1, 0)]
    assert read.digest == text_corpus(model, TEXT, "another name").digest != asked.digest
    with pytest.raises(TaskError, match="does not know"):
        text_corpus(model, "words that it never saw")
    with pytest.raises(SettingsError, match="no tokens"):
        contexts(model.view(), Corpus("nothing", ()), SvdCache(None), [MatrixKey(0, Kind.K)])


def test_a_pass_is_kept_found_again_and_made_again_where_it_is_damaged(
    view: View, svds: SvdCache, tiny_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run: Callable[..., Any] = view.logits
    monkeypatch.setattr(view, "logits", lambda *given, **named: (runs.append(1), run(*given, **named))[1])
    store = ContextStore(tmp_path / "contexts", pytest.fail, limit=10**9)
    keys, corpus = matrices(view), task_corpus(view.model, tiny_task)

    def look(key: MatrixKey, corpus: Corpus = corpus) -> tuple[int, Any]:
        runs.clear()
        found = kept_contexts(view, corpus, svds, keys, key=key, store=store)
        return len(runs), found

    count, first = look(keys[0])
    assert count
    again, same = look(keys[0])
    assert not again
    assert all(torch.equal(one, same.tensors()[name]) for name, one in first.tensors().items())
    assert not look(keys[-1])[0]
    assert look(keys[0], Corpus("tiny", corpus.sequences[:3]))[0]
    assert store.info().entries == 2
    for path in store.folder.glob("*.safetensors"):
        content = path.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        path.write_bytes(content[:begin] + bytes(255 - one for one in content[begin:]))
    assert look(keys[-1])[0]
    assert not look(keys[0])[0]
    assert store.clear() == 2
    assert store.info().entries == 0


def test_the_least_recently_used_passes_go_and_a_folder_that_cannot_be_written_is_told(
    view: View, svds: SvdCache, tiny_task: Task, tmp_path: Path
) -> None:
    corpus, key = task_corpus(view.model, tiny_task), MatrixKey(0, Kind.K)
    store = ContextStore(tmp_path / "contexts", pytest.fail, limit=1)
    for count in (2, 3):
        kept_contexts(view, Corpus("some", corpus.sequences[:count]), svds, [key], key=key, store=store)
    assert store.info().entries == 1
    (tmp_path / "file").write_text("no folder")
    told: list[str] = []
    store = ContextStore(tmp_path / "file", told.append, limit=1)
    kept_contexts(view, corpus, svds, [key], key=key, store=store)
    assert len(told) == 1
    assert "cannot be kept" in told[0]
