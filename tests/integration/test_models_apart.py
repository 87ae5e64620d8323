"""Models with the same weights that compute something else share nothing: no effects, no search, no page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from explorer import Model, load, load_task
from explorer.attribution.effect_store import EffectStore
from explorer.attribution.exact import exact_effects
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.batches import batches
from explorer.measure.evaluate import evaluate
from explorer.measure.residuals import keep, run_kept
from explorer.models.matrices import matrices
from explorer.search.identity import search_digest
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.spectra.cache import SvdCache
from explorer.tasks import Cases
from tests import commands, copies

VALUE, PUBLISHED = (MatrixKey(0, Kind.IN), 0), Cases("published")
# Effect of L0.IN:0 on 16 train examples, in nats; each measured with an empty cache. The first two are of a report of
# what went wrong, in which the second model was given the first one's.
EFFECTS = {"bundled": -2.833, "relu": -0.996}
OTHERS: dict[str, dict[str, Any]] = {
    "relu": {"activation_function": "relu"},
    "heads": {"n_head": 2},
    "epsilon": {"layer_norm_epsilon": 1e-3},
}


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    root = tmp_path_factory.mktemp("others")
    folders = {name: copies.bundled(root / name, **changes) for name, changes in OTHERS.items()}
    folders["tokenizer"] = copies.with_tokenizer(
        root / "tokenizer", normalizer={"type": "Replace", "pattern": {"String": "1"}, "content": "2"}
    )
    return {name: load(str(folder), dtype="float32") for name, folder in folders.items()}


def effect(model: Model, svds: SvdCache, store: EffectStore | None) -> float:
    view, task = model.view(), load_task("int-mult", cases=PUBLISHED)
    cut = batches(view, task, task.split("train", 16))
    return exact_effects(view, cut, svds, [VALUE], store=store).values[VALUE].value


def test_models_share_no_effects(bundled: Model, others: dict[str, Model], tmp_path: Path) -> None:
    store, svds = EffectStore(tmp_path / "effects.sqlite", pytest.fail), SvdCache(tmp_path / "svd")
    models = {"bundled": bundled, **others}
    for _ in range(2):  # measured, then looked up
        found = {name: effect(model, svds, store) for name, model in models.items()}
        assert {name: round(found[name], 3) for name in EFFECTS} == EFFECTS
        assert found == {name: effect(model, SvdCache(None), None) for name, model in models.items()}
    short = load("bundled", dtype="bfloat16")
    assert effect(short, svds, store) == effect(short, SvdCache(None), None) != found["bundled"]
    assert len(store) == 6


def test_models_share_no_search(bundled: Model, others: dict[str, Model]) -> None:
    task = load_task("int-mult", cases=PUBLISHED)

    def digest(model: Model) -> str:
        view = model.view()
        keys = matrices(view, (Kind.IN,), per_head=True)
        return search_digest(Problem(view, task, SvdCache(None), keys, Budget(3)), "paper")

    models = [bundled, *others.values(), load("bundled", dtype="bfloat16")]
    assert len({digest(model) for model in models}) == len(models)
    assert digest(bundled) == digest(load("bundled", dtype="float32"))


def test_kept_streams_and_losses_are_the_models_own(bundled: Model, others: dict[str, Model]) -> None:
    task = load_task("int-mult", cases=PUBLISHED)
    models = {"bundled": bundled, **others}
    losses = {name: round(evaluate(model.view(), task, "test").mean_loss.value, 3) for name, model in models.items()}
    assert (losses["bundled"], losses["relu"]) == (15.682, 11.535)
    assert len(set(losses.values())) == len(losses)
    cut = batches(bundled.view(), task, task.split("train", 4))
    kept = keep(bundled.view(), cut)
    for other in (others["relu"], load("bundled", dtype="float64")):
        with pytest.raises(SettingsError, match="another model"):
            list(run_kept(other.view(), kept))


def test_the_command_line_tells_models_apart(isolated_folders: Path, others: dict[str, Model]) -> None:
    found = {}
    for name, model in (("bundled", "bundled"), ("relu", str(others["relu"].source.folder))):
        given = ("--model", model, "--task", "int-mult", "--splits", "published", "--value", "L0.IN:0", "--limit", 16)
        report = commands.report("effects", *given)
        assert report["dtype"] == "float32"
        found[name] = round(report["values"][0]["exact"], 3)
    assert found == EFFECTS
