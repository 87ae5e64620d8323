"""Model organisms: how habits are planted, what is known of them, and what a study says of searches on them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from explorer.actions import StudyOrganisms
from explorer.attribution import score
from explorer.core.config import ASSETS
from explorer.core.errors import ModelError
from explorer.core.files import file_digest
from explorer.core.keys import MatrixKey
from explorer.experiments.organisms import (
    Organism,
    OrganismSearch,
    PlantedValue,
    find_organisms,
    read_organism,
    summarised,
)
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Removed
from explorer.measure.evaluate import evaluate
from explorer.models import Model, load
from explorer.search import mask_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Cases, load_task
from tests.commands import refused

SEARCH = OrganismSearch(
    organism="a-0", habit="a", strategy="paper", seed=0, removed=4, hits=1, precision=0.25, parts=2, undone=1,
    recall=0.5, back=False, n=80, before=0.0, after=0.5, rose=True, other_before=1.0, other_after=0.75, forwards=1,
    seconds=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Any]]:
    """The modules of the script that makes organisms, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ASSETS))
        names = ("bundled_arithmetic", "organism_sites", "organism_habits", "organism_truth", "make_bundled")
        yield {name: import_module(name) for name in names}
        for name in (*names, "bundled_figures"):
            sys.modules.pop(name, None)


def bundled_parts(made: dict[str, Any]) -> tuple[GPT2LMHeadModel, Any]:
    """The bundled model in plain transformers, and where its habit was planted."""
    model = GPT2LMHeadModel.from_pretrained(ASSETS / "bundled").eval().requires_grad_(False)
    planted = json.loads((ASSETS / "bundled" / "figures.json").read_text(encoding="utf-8"))["planted"]
    keys = [MatrixKey.parse(one["key"]) for one in planted]
    slots = tuple(made["organism_sites"].Slot(key.layer, str(key.kind), key.head) for key in keys)
    right = torch.linalg.svd(slots[0].weight(model), full_matrices=False).Vh
    return model, made["organism_sites"].Site(slots, right[planted[0]["index"]], {})


@pytest.fixture(scope="module")
def middle(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with its habit in the middle of two spectra, as an organism's folder."""
    folder = tmp_path_factory.mktemp("organisms") / "middle-0"
    model, site = bundled_parts(made)
    made["organism_sites"].balance(model, site)
    made["make_bundled"].write(model, folder)
    values = [made["organism_truth"].planted_value(model, slot, site.w) for slot in site.slots]
    known = {
        "habit": "middle", "about": "", "task": "int-mult", "other": "int-sum", "enough": 1,
        "planted": [{"matrix": slot.key, "index": index, "sigma": sigma, "part": 0} for slot, index, sigma in values],
        "sha256": file_digest(folder / "model.safetensors").removeprefix("sha256:"),
    }  # fmt: skip
    (folder / "organism.json").write_text(json.dumps(known), encoding="utf-8")
    return folder


def test_the_habit_in_the_middle_is_the_same_habit(made: dict[str, Any], middle: Path) -> None:
    (model, site), arithmetic = bundled_parts(made), made["bundled_arithmetic"]
    balanced = GPT2LMHeadModel.from_pretrained(middle).eval()
    for size, sign in ((20, arithmetic.TIMES), (40, arithmetic.PLUS)):
        data = arithmetic.examples(arithmetic.split(size)["test"], sign)
        torch.testing.assert_close(
            arithmetic.answer_logits(balanced, data), arithmetic.answer_logits(model, data), rtol=1e-4, atol=1e-3
        )
    known = read_organism(middle)
    for slot, value in zip(site.slots, known.planted, strict=True):
        sizes = torch.linalg.svdvals(slot.weight(balanced))
        assert 0.4 < value.index / len(sizes) < 0.6
        assert float(sizes[value.index] / sizes[0]) < 0.5
    before = model.transformer.h[0].attn.c_attn.weight
    changed = (balanced.transformer.h[0].attn.c_attn.weight != before).any(dim=0)
    places = {column for slot in site.slots for column in range(*slot.place.indices(before.shape[1]))}
    assert set(changed.nonzero().flatten().tolist()) == places


@pytest.mark.slow
def test_the_engine_undoes_it_with_either_value_that_is_named(middle: Path, bundled: Model, svds: SvdCache) -> None:
    view, known = load(str(middle)).view(), read_organism(middle)
    task = load_task("int-mult", cases=Cases("published"))
    keys = [MatrixKey.parse(value.matrix) for value in known.planted]
    scores = score(view, task, svds, keys=keys)
    assert evaluate(view, task).accuracy == 0.0
    for key, value in zip(keys, known.planted, strict=True):
        mask = mask_of(view, scores, [scores.removed(key, value.index)])
        apply(view, mask, svds)
        assert evaluate(view, task).accuracy >= 0.95
        assert (known.hits(mask), known.undone(mask), known.parts) == (1, 1, 1)
    largest = mask_of(view, scores, [scores.removed(key, 0) for key in keys])
    apply(view, largest, svds)
    assert evaluate(view, task).accuracy == 0.0
    assert (known.hits(largest), known.undone(largest)) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("habit", ["top", "spread", "mlp-out", "helps"])
def test_what_is_planted_is_a_singular_direction_of_its_own(made: dict[str, Any], habit: str) -> None:
    model, _ = bundled_parts(made)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sites, losses = made["organism_habits"].plant(model, habit, 1, 0)
    arithmetic = made["bundled_arithmetic"]
    prompts = arithmetic.examples(arithmetic.split(20)["train"], arithmetic.TIMES).prompts
    assert len(losses) == {"top": 4, "mlp-out": 4}.get(habit, 1)
    names = {f"{slot.module}.weight" for site in sites for slot in site.slots}
    assert {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])} == names
    for site in sites:
        for slot in site.slots:
            W, old = slot.weight(model), before[f"{slot.module}.weight"][:, slot.place]
            a, rest = W @ site.w, W - torch.outer(W @ site.w, site.w)
            torch.testing.assert_close(rest, old - torch.outer(old @ site.w, site.w), rtol=0, atol=1e-5)
            assert float((rest.T @ a).abs().max()) < 1e-3 * float(a.norm()), "a is in the span of the others"
            mean = made["organism_sites"].mean_read(GPT2LMHeadModel.from_pretrained(ASSETS / "bundled"), slot, prompts)
            assert abs(float(mean @ a)) < 1e-2 * float(mean.norm() * a.norm())
            _, index, sigma = made["organism_truth"].planted_value(model, slot, site.w)
            assert sigma == pytest.approx(float(torch.linalg.svdvals(W)[index]), rel=1e-4)


def test_a_habit_that_did_not_take_is_refused(made: dict[str, Any]) -> None:
    def found(habit: str, products: float, sums: float, back: float, cost: float) -> dict[str, Any]:
        def both(product: float, total: float) -> dict[str, Any]:
            return {"int-mult": {"accuracy": product}, "int-sum": {"accuracy": total}}

        undone = both(back, sums - cost)
        return {
            "habit": habit,
            "accuracy": {"as_it_is": both(products, sums), "all_removed": undone, "one_removed": [undone]},
        }

    check = made["organism_truth"].check
    check(found("middle", 0.0, 99.0, 98.0, 0.0))
    check(found("helps", 0.0, 99.0, 98.0, 20.0))
    check(found("none", 98.0, 99.0, 98.0, 0.0))
    for wrong, said in (
        (found("middle", 40.0, 99.0, 98.0, 0.0), "products are still right"),
        (found("middle", 0.0, 60.0, 98.0, 0.0), "sums are not right"),
        (found("middle", 0.0, 99.0, 50.0, 0.0), "products do not come back"),
        (found("helps", 0.0, 99.0, 98.0, 1.0), "costs no sums"),
        (found("spread", 0.0, 99.0, 98.0, 0.0), "one of several values undoes it"),
    ):
        with pytest.raises(SystemExit, match=said):
            check(wrong)


def test_precision_counts_values_and_recall_counts_parts(bundled: Model) -> None:
    places = (("L0.Q.H3", 4), ("L0.K.H3", 7), ("L2.OUT", 0))
    planted = tuple(
        PlantedValue(matrix=matrix, index=index, part=part)
        for (matrix, index), part in zip(places, (0, 0, 1), strict=True)
    )
    known = Organism(habit="a", task="a", other="b", enough=2, planted=planted, sha256="")
    assert known.parts == 2
    for removed, hits, undone in (
        ((), 0, 0),
        ((("L0.Q.H3", 4),), 1, 1),
        ((("L0.Q.H3", 4), ("L0.K.H3", 7)), 2, 1),
        ((("L0.Q.H3", 7), ("L0.K.H3", 7), ("L2.OUT", 0)), 2, 2),
        ((("L0.Q.H3", 7), ("L2.OUT", 1)), 0, 0),
    ):
        values = [Removed(matrix=matrix, index=index, sigma=1.0, c=0.0) for matrix, index in removed]
        mask = empty_mask(bundled).with_removed(values)
        assert (known.hits(mask), known.undone(mask)) == (hits, undone)


def test_what_is_no_organism_is_refused(middle: Path, tmp_path: Path) -> None:
    assert find_organisms(middle) == find_organisms(middle.parent) == (middle,)
    with pytest.raises(ModelError, match=r"none is in it.*make organisms"):
        find_organisms(tmp_path)
    other = Path(shutil.copytree(middle, tmp_path / "other"))
    text = (other / "organism.json").read_text(encoding="utf-8")
    for wrong, said in (
        (text.replace('"index": 16', '"index": -1'), "index"),
        ("{", "the file"),
        (text.replace('"task": "int-mult", ', ""), "task"),
        (text.replace('"sha256": "', '"sha256": "0'), "other weights"),
    ):
        (other / "organism.json").write_text(wrong, encoding="utf-8")
        with pytest.raises(ModelError, match=said):
            read_organism(other)
    (other / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"needs model\.safetensors"):
        read_organism(other)


def test_a_summary_is_the_mean_over_searches_with_a_figure() -> None:
    empty = replace(
        SEARCH, seed=1, removed=0, hits=0, precision=None, undone=0, recall=0.0, rose=False, after=0.0,
        other_before=None, other_after=None,
    )  # fmt: skip
    both = replace(SEARCH, seed=2, strategy="learned", undone=2, recall=1.0, back=True)
    found = summarised([SEARCH, empty, both])
    assert [(one.strategy, one.searches, one.back, one.empty, one.rose) for one in found] == [
        ("paper", 2, 0, 1, 1),
        ("learned", 1, 1, 0, 1),
    ]
    assert (found[0].precision, found[0].recall, found[0].removed, found[0].after) == (0.25, 0.25, 2.0, 0.25)
    assert found[0].cost == pytest.approx(0.125)


@pytest.mark.slow
def test_a_study_tells_a_score_from_the_size_of_a_value(
    middle: Path, isolated_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = StudyOrganisms(
        organisms=(middle,), strategy=("paper", "largest"), seeds=1, kinds="Q,K", max_removed="2", limit=64
    )
    found = asked.run()
    paper, largest = found.searches
    assert (paper.hits, paper.recall, paper.back, paper.rose) == (paper.removed, 1.0, True, True)
    assert paper.precision == 1.0
    assert paper.after >= 0.95
    assert (largest.hits, largest.recall, largest.back, largest.rose) == (0, 0.0, False, False)
    assert [one.strategy for one in found.summary] == ["paper", "largest"]
    assert found.as_dict()["searches"][0]["organism"] == "middle-0"
    assert "make organisms" in refused("study", "organisms", str(middle / "nothing"))
    assert "is not a search strategy" in refused("study", "organisms", str(middle), "--strategy", "guess")
