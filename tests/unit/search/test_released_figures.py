"""The released preset gives the released implementation's own figures, on the bundled model in float64.

`tests/data/released-int-mult-8.json` was written by the released code itself, `released-padded.json` by its description
over the TransformerLens of its time (1.14.0), which pads and masks prompts of several lengths in its own way.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from explorer.attribution import Options, score
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply
from explorer.measure.batches import answer_logits, batches
from explorer.models import Model, load
from explorer.models.matrices import matrices
from explorer.search.released import ReleasedRequest, ReleasedSettings, run_released
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task

DATA = Path(__file__).parents[2] / "data"
PRINTED = 0.5000001  # figures are rounded to their last digit


def figures(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return found


FIGURES, PADDED = figures("released-int-mult-8"), figures("released-padded")


@cache
def bundled() -> Model:
    return load("bundled", dtype="float64", device="cpu", basis="folded")


def products(pairs: list[list[int]]) -> tuple[Example, ...]:
    return tuple(Example(f"{i} x {j} =", f" {i * j}") for i, j in pairs)


def texts(rows: list[list[str]]) -> tuple[Example, ...]:
    return tuple(Example(prompt, answer) for prompt, answer in rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["K", "OUT"])
def test_scores_chosen_values_and_predictions_are_those_of_the_released_code(kind: str, svds: SvdCache) -> None:
    view, expected, examples = bundled().view(), FIGURES[kind], FIGURES["examples"]
    task = Task("int-mult", "", products(examples["train"]), (), products(examples["test"]), seed=0)
    keys, settings = matrices(view, [Kind(kind)]), ReleasedSettings(FIGURES["setting"]["fraction"], 8)
    assert {str(key) for key in keys} == set(expected["scores"])
    scores = score(view, task, svds, keys, scorer="as-released", options=settings.options(0))
    for key in keys:
        wanted = np.array(expected["scores"][str(key)])
        np.testing.assert_allclose(scores.matrices[key].score, wanted, rtol=0, atol=1e-10, err_msg=str(key))
    report = run_released(view, task, svds, ReleasedRequest([Kind(kind)], settings, control_draws=0))
    assert {f"{one.key}:{one.index}" for one in report.mask.removed} == set(expected["chosen"])
    assert report.test.mean_loss.value == pytest.approx(expected["loss_after"], abs=1e-12)
    assert report.baseline.mean_loss.value == pytest.approx(FIGURES["setting"]["unpruned_loss"], abs=5e-4)
    apply(view, report.mask, svds)
    for batch in batches(view, task, task.test[:3]):
        with torch.no_grad():
            found = answer_logits(view, batch).log_softmax(dim=-1)
        wanted = np.array(expected["log_probs_first_3_test"])[batch.places]
        rounding = PRINTED * 10.0 ** (np.floor(np.log10(np.abs(wanted))) - 8)  # nine digits
        assert (np.abs(found.numpy() - wanted) <= rounding + 1e-12).all()


def named(case: dict[str, Any]) -> str:
    adds, pad = ("adds" if case["adds_bos"] else "no"), ("pad" if case["pad_is_bos"] else "another")
    return f"{adds}-bos-{pad}-{case['answer_token']}-{case['kinds']}"


@pytest.mark.slow
@pytest.mark.parametrize("case", PADDED["cases"], ids=named)
def test_padded_prompts_are_scored_and_predicted_as_by_the_library_of_the_released_code(
    case: dict[str, Any], svds: SvdCache
) -> None:
    model = bundled()
    tokenizer = type(model.tokenizer).from_pretrained(model.source.folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A" if case["adds_bos"] else "$A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    if case["pad_is_bos"]:
        tokenizer.pad_token = tokenizer.bos_token
    view, kinds = replace(model, tokenizer=tokenizer).view(), [Kind(name) for name in case["kinds"].split(",")]
    task = Task("uneven", "", texts(PADDED["train"]), (), texts(PADDED["test"]), seed=0, bos=False)
    settings = ReleasedSettings(PADDED["setting"]["fraction"], 3, case["answer_token"])
    report = run_released(view, task, svds, ReleasedRequest(kinds, settings, control_draws=0))
    assert {f"{one.key}:{one.index}" for one in report.mask.removed} == set(case["chosen"].split())
    assert report.baseline.loss == pytest.approx(case["before"], abs=1e-9)
    assert report.test.loss == pytest.approx(case["after"], abs=1e-9)
    assert (report.positions, report.reads_bos) == (32, case["adds_bos"] or case["pad_is_bos"])
    scores = score(
        view, replace(task, bos=report.reads_bos), svds, matrices(view, kinds), scorer="as-released",
        options=Options(batch_size=3, answer_token=case["answer_token"], padded_to=32),
    )  # fmt: skip
    for name, (largest, weighted) in case["scores"].items():
        found = scores.matrices[MatrixKey.parse(name)].score
        assert float(found.max()) == pytest.approx(largest, abs=1e-9)
        assert float(found @ torch.arange(1, len(found) + 1, dtype=found.dtype)) == pytest.approx(weighted, abs=1e-8)
