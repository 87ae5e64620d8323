"""Views in another type than the model's, and in which type proposals are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from explorer.attribution import score
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import apply, empty_mask
from explorer.models import Model, load
from explorer.models.compute import WORTH_IT, compute_type
from explorer.models.matrices import matrices
from explorer.models.model import LARGE
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

TOKENS = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])


def checksum(model: Model) -> list[tuple[str, torch.dtype, float]]:
    return [(name, one.dtype, float(one.double().sum())) for name, one in model.weights().items()]


def test_a_view_in_a_narrower_type_is_the_model_loaded_in_it(model: Model, folder: Path) -> None:
    before = checksum(model)
    narrow, loaded = model.view("bfloat16"), load(str(folder), dtype="bfloat16").view()
    with torch.no_grad():
        assert torch.equal(narrow.logits(TOKENS), loaded.logits(TOKENS))
    assert checksum(model) == before
    assert model.view("float32").bridge.original_model.dtype == torch.float32


def test_a_mask_is_put_onto_it_and_taken_off(model: Model, svds: SvdCache, tiny_task: Task) -> None:
    before, narrow, own = checksum(model), model.view("bfloat16"), model.view()
    with torch.no_grad():
        unpruned = narrow.logits(TOKENS)
        mask = prune(own, tiny_task, svds, kinds=(Kind.Q, Kind.O), count=12)
        apply(narrow, mask, svds)
        masked = narrow.logits(TOKENS)
        assert not torch.equal(masked, unpruned)
        apply(own, mask, svds)
        assert torch.allclose(masked.float(), own.logits(TOKENS), atol=0.05, rtol=0.05)
        apply(narrow, empty_mask(model), svds)
        assert torch.equal(narrow.logits(TOKENS), unpruned)
    assert checksum(model) == before


def test_scores_on_it_are_the_scores_but_for_rounding(model: Model, svds: SvdCache, tiny_task: Task) -> None:
    keys = matrices(model.view())
    exact, rounded = (score(view, tiny_task, svds, keys) for view in (model.view(), model.view("bfloat16")))
    a, b = (torch.cat([one.score.double() for one in found.matrices.values()]) for found in (exact, rounded))
    assert not torch.equal(a, b)
    assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.99


@pytest.mark.parametrize(
    ("dtype", "size", "fast", "choice", "expected"),
    [
        ("float32", WORTH_IT, True, "auto", "bfloat16"),
        ("float32", WORTH_IT - 1, True, "auto", "float32"),
        ("float32", LARGE + 1, True, "auto", "float32"),  # a second copy would not fit beside the first
        ("float32", LARGE + 1, True, "bfloat16", "bfloat16"),
        ("float32", WORTH_IT, False, "auto", "float32"),
        ("bfloat16", WORTH_IT, True, "auto", "bfloat16"),
        ("float16", WORTH_IT, True, "auto", "float16"),
        ("float32", 1, False, "bfloat16", "bfloat16"),
        ("float32", WORTH_IT, True, "float32", "float32"),
        ("float64", 1, True, "float32", "float32"),
        ("bfloat16", WORTH_IT, True, "float32", "bfloat16"),
        ("float16", WORTH_IT, True, "bfloat16", "float16"),
    ],
)
def test_the_type_of_proposals(
    monkeypatch: pytest.MonkeyPatch, dtype: str, size: int, fast: bool, choice: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast})
    given = replace(load("bundled", dtype=dtype), parameters_count=size)
    assert compute_type(given, choice) == expected


def test_another_word_is_refused(model: Model) -> None:
    with pytest.raises(SettingsError, match="compute 'int8' is not known: choose one of auto, float32, bfloat16"):
        compute_type(model, "int8")
