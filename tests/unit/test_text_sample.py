"""The sample of plain text: perplexity of short windows, against plain transformers and against whole runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.perplexity import growth, perplexity
from explorer.measure.text_sample import draw_text_sample
from explorer.models import Model, View
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests import tiny

TEXT = " ".join(f"w{(7 * i * i + 3 * i) % 20}" for i in range(40))
IDS = [tiny.IDS[word] for word in TEXT.split()]


@pytest.mark.parametrize("bos", [True, False])
def test_windows_agree_with_plain_transformers(view64: View, plain64: Any, bos: bool) -> None:
    if not bos:
        without = tiny.tokenizer()
        without.bos_token = None
        view64.model = replace(view64.model, tokenizer=without)
    found = draw_text_sample(view64, TEXT, window=6, most=5, seconds=1e9).baseline
    front, room = ([0], 5) if bos else ([], 6)
    expected = []
    for start in range(0, 5 * room, room):
        row = torch.tensor([[*front, *IDS[start : start + room]]])
        with torch.no_grad():
            logs = plain64(row).logits[0, :-1].log_softmax(dim=-1)
        expected.append(-float(logs.gather(1, row[0, 1:, None]).sum()))
    assert found.counts == (5,) * 5
    np.testing.assert_allclose(found.nll, expected, rtol=1e-6)


def test_a_mask_is_measured_as_whole_runs_measure_it(model64: Model, tiny_task: Task, svds: SvdCache) -> None:
    view = model64.view()
    sample = draw_text_sample(view, TEXT, window=6, seconds=1e9)
    mask = prune(model64.view(), tiny_task, svds, kinds=[Kind.OUT], count=5)
    apply(view, mask, svds)
    found, whole = sample.measure(view), draw_text_sample(view, TEXT, window=6, seconds=1e9).baseline
    assert found.nll != sample.baseline.nll
    np.testing.assert_allclose(found.nll, whole.nll, rtol=1e-9)
    value, (low, high) = growth(found, sample.baseline)
    assert value == pytest.approx(np.exp(found.loss - sample.baseline.loss) - 1)
    assert low < value < high
    apply(view, mask.without_all(), svds)
    assert sample.measure(view) == sample.baseline
    assert model64.current_digest() == model64.digest


def test_a_short_budget_takes_few_windows_and_a_short_text_all(view: View) -> None:
    assert len(draw_text_sample(view, TEXT, window=4, seconds=0.0).baseline.nll) == 4
    short = draw_text_sample(view, "w1 w2 w3 w4", window=16).baseline
    assert short.nll == pytest.approx(perplexity(view, "w1 w2 w3 w4", window=16).nll, rel=1e-5)
    assert short.counts == (4,)


def test_bad_texts_and_other_models_get_a_sentence(view: View, view64: View) -> None:
    with pytest.raises(TaskError, match="the text has 1 tokens"):
        draw_text_sample(view, "w1")
    with pytest.raises(TaskError, match="does not know 100 % of this text"):
        draw_text_sample(view, "nothing that it knows")
    with pytest.raises(SettingsError, match="another model"):
        draw_text_sample(view, TEXT, window=6).measure(view64)
