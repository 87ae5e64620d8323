"""`attention` against the engine, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explorer.core.keys import Kind
from explorer.masks.apply import empty_mask
from explorer.masks.head_split import HeadPlace, head_split
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests.commands import refused, report, run

PROMPT = "w3 w1 w4 w1 w5"


@pytest.fixture
def common(folder: Path) -> tuple[str, ...]:
    return ("attention", "L1.H2", "--model", str(folder), "--prompt", PROMPT)


def test_json_is_the_engines_and_adds_up(common: tuple[str, ...], model: Model, svds: SvdCache) -> None:
    found = report(*common, "--query", 4, "--key", 2)
    engine = head_split(model.view(), empty_mask(model), svds, PROMPT, place=HeadPlace(1, 2, 4, 2))
    np.testing.assert_allclose(found["score"]["here"], engine.score.here.numpy(), atol=1e-6)
    np.testing.assert_allclose(found["moved"]["elsewhere"], engine.moved.elsewhere.numpy(), atol=1e-6)
    for name in ("score", "moved"):
        split = found[name]
        assert len(split["here"]) == len(split["first_terms"])
        assert len(split["here"][0]) == len(split["second_terms"])
        assert np.sum(split["here"]) == pytest.approx(split["own"], abs=1e-5)
    assert found["score"]["first"] == "L1.Q.H2"
    assert found["moved"]["second"] == "L1.O.H2"
    assert [one["position"] for one in found["seen"]] == [0, 1, 2, 3, 4]
    assert sum(one["attention"] for one in found["seen"]) == pytest.approx(1, abs=1e-5)
    scores = {one["position"]: one["score"] for one in found["seen"]}
    assert found["score"]["own"] == scores[2]
    assert found["score"]["own_elsewhere"] == pytest.approx(np.mean([scores[i] for i in (0, 1, 3, 4)]))


def test_a_mask_and_a_direction_of_logits(
    common: tuple[str, ...], model: Model, tiny_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    mask = prune(model.view(), tiny_task, svds, kinds=[Kind.Q], count=3)
    mask.save(tmp_path / "mask.json")
    found = report(*common, "--mask", tmp_path / "mask.json", "--toward", " w7", "--rather-than", " w8")
    assert found["removed"] == 3
    assert found["mode"] == "freeze"
    assert found["toward"] == "the logit of 'w7' minus that of 'w8'"
    plain = report(*common, "--toward", " w7", "--directions", "product")
    assert plain["score"]["second"] == "L1.QK.H2"
    assert plain["mask_digest"] is None


def test_people_see_who_looks_where_and_every_sum(common: tuple[str, ...]) -> None:
    text = run(*common, "--query", 4, "--key", 2, "--top", 3).stdout
    assert "L1.H2 looks from 'w1' (4) to 'w1' (2): score" in text
    assert text.count("the model's own") == 2
    assert "others" in text


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--directions", "rows"), "--directions 'rows' is not known: choose one of head, stacked, product."),
        (("--rather-than", " w1"), "--rather-than needs --toward"),
        (("--query", 9), "the query 9 is no position: the prompt has tokens 0 to 5"),
        (("--query", 1, "--key", 3), "token 1 does not see token 3"),
    ],
)
def test_what_is_not_there_is_refused(common: tuple[str, ...], more: tuple[object, ...], sentence: str) -> None:
    assert sentence in refused(*common, *more)


def test_a_layer_is_not_a_head(folder: Path) -> None:
    assert "is a layer: give one of its heads" in refused("attention", "L1", "--model", folder, "--prompt", PROMPT)
