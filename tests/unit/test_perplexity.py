"""Perplexity against a loop over plain transformers that predicts one token at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.core.config import ASSETS
from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.measure.perplexity import MAX_BYTES, Perplexity, growth, own_text, perplexity, read_text
from explorer.models import Model, View
from tests import tiny

TEXT = " ".join(f"w{(7 * i * i + 3 * i) % 20}" for i in range(40))
IDS = [tiny.IDS[word] for word in TEXT.split()]


def slow(model: Any, ids: list[int], window: int, stride: int, front: list[int]) -> list[float]:
    """Loss of each predicted token: it is counted in the first window that holds it and something before it."""
    losses: dict[int, float] = {}
    room = window - len(front)
    for start in range(0, len(ids), stride):
        for place in range(start, min(start + room, len(ids))):
            before = [*front, *ids[start:place]]
            if place in losses or not before:
                continue
            with torch.no_grad():
                losses[place] = -float(model(torch.tensor([before])).logits[0, -1].log_softmax(dim=0)[ids[place]])
        if start + room >= len(ids):
            break
    return [losses[place] for place in sorted(losses)]


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 15), (5, 1), (7, 3), (2, 1), (None, None)])
def test_it_agrees_with_plain_transformers(
    view64: View, plain64: Any, window: int | None, stride: int | None, bos: bool
) -> None:
    if not bos:
        without = tiny.tokenizer()
        without.bos_token = None
        view64.model = replace(view64.model, tokenizer=without)
    text = " ".join(TEXT.split()[:22])
    found = perplexity(view64, text, window=window, stride=stride)
    expected = slow(plain64, IDS[:22], window or 16, stride or 8, [0] if bos else [])
    assert found.tokens == len(expected) == 22 - (not bos)
    assert found.loss == pytest.approx(np.mean(expected), rel=1e-6)
    assert found.value == pytest.approx(math.exp(np.mean(expected)), rel=1e-6)
    assert (found.window, found.stride) == (window or 16, stride or 8)


def test_batches_of_windows_change_nothing(view64: View) -> None:
    together = perplexity(view64, TEXT, window=6, stride=2)
    told: list[tuple[int, int]] = []
    alone = perplexity(
        view64, TEXT, window=6, stride=2, logits_at_once=1, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(done, len(alone.nll)) for done in range(len(alone.nll) + 1)], "one window at a time"
    assert alone.counts == together.counts
    np.testing.assert_allclose(alone.nll, together.nll, rtol=1e-9)


def test_a_limit_reads_the_first_tokens(view: View) -> None:
    assert perplexity(view, TEXT, tokens=10).tokens == 10
    assert perplexity(view, TEXT, tokens=None).tokens == 40
    short = " ".join(TEXT.split()[:10])
    assert perplexity(view, TEXT, tokens=10) == perplexity(view, short)


def test_the_standard_error_is_that_of_the_windows_ratio() -> None:
    found = Perplexity((4.0, 9.0, 5.0), (2, 3, 2), 4, 2, "")
    mean = 18 / 7
    spread = sum((n - mean * c) ** 2 for n, c in zip(found.nll, found.counts, strict=True))
    assert found.loss == pytest.approx(mean)
    assert found.stderr == pytest.approx(math.sqrt(spread / 2 * 3) / 7)
    equal = Perplexity((1.0, 2.0, 6.0), (2, 2, 2), 4, 2, "")
    assert equal.stderr == pytest.approx(np.std([0.5, 1.0, 3.0], ddof=1) / math.sqrt(3))
    assert math.isnan(Perplexity((1.0,), (2,), 4, 2, "").stderr)


def test_growth_is_paired_by_window() -> None:
    before = Perplexity((4.0, 9.0, 5.0), (2, 3, 2), 4, 2, "t")
    after = Perplexity(
        tuple(n + 0.1 * c for n, c in zip(before.nll, before.counts, strict=True)), before.counts, 4, 2, "t"
    )
    value, interval = growth(after, before)
    assert value == pytest.approx(math.exp(0.1) - 1)
    assert interval == pytest.approx((value, value))  # each window grew alike
    assert value == pytest.approx(after.value / before.value - 1)
    for other in (Perplexity(before.nll, before.counts, 4, 1, "t"), Perplexity(before.nll, before.counts, 4, 2, "u")):
        with pytest.raises(SettingsError, match="of different texts or windows"):
            growth(after, other)


@pytest.mark.parametrize(("window", "stride"), [(17, 4), (1, 1), (8, 0), (8, 8), (8, -1), (0, None)])
def test_windows_that_cannot_be_used_are_refused(view: View, window: int, stride: int | None) -> None:
    with pytest.raises(SettingsError, match="cannot be used: this model reads 2 to 16 tokens, and the stride must be"):
        perplexity(view, TEXT, window=window, stride=stride)


def test_texts_that_say_nothing_are_refused(view: View) -> None:
    with pytest.raises(TaskError, match="the text has 1 tokens: give one of 2 or more"):
        perplexity(view, "w1")
    with pytest.raises(TaskError, match="tokenizer does not know 50 % of this text: give a text in its own words"):
        perplexity(view, "w1 what w2 is w3 this")


def test_progress_ends_at_the_whole_and_may_stop(view: View) -> None:
    told: list[tuple[int, int]] = []
    perplexity(view, TEXT, progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 0

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        perplexity(view, TEXT, progress=stop)


def test_the_text_that_comes_along_is_the_end_of_opticks() -> None:
    text = read_text()
    assert text.startswith(
        "Qu. 28. Are not all Hypotheses erroneous, in which Light is supposed to consist in Pression"
    )
    assert text.endswith(
        "their Ancestors did under the Government of Noah and his Sons before they corrupted themselves.\n"
    )
    assert 60_000 < len(text.encode()) < 100_000
    assert "_" not in text
    assert "opticks.txt" in (ASSETS / "text" / "README.md").read_text(encoding="utf-8")


def test_the_text_that_comes_along_is_left_out_for_a_tokenizer_that_does_not_know_it(model: Model) -> None:
    class Letters:
        unk_token_id = None

        def __call__(self, text: str | list[str], **_: object) -> dict[str, list[Any]]:
            one = isinstance(text, str)
            return {"input_ids": [*map(ord, text)] if one else [[*map(ord, part)] for part in text]}

    assert own_text(Letters()) == read_text()
    assert own_text(model.tokenizer) is None


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"cannot be read \(No such file or directory\): check the path"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("ü".encode("latin-1"))
    with pytest.raises(TaskError, match="is not UTF-8 text: save it as UTF-8"):
        read_text(tmp_path / "latin.txt")
    with (tmp_path / "huge.txt").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(TaskError, match="has more than 10,000,000 bytes: give an excerpt of it"):
        read_text(tmp_path / "huge.txt")


def test_the_models_weights_stay_as_they_are(model: Model) -> None:
    view = model.view()
    first = perplexity(view, TEXT)
    assert perplexity(model.view(), TEXT) == first
