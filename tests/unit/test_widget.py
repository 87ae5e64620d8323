"""The notebook widget without a browser: given what the plot sends, it has the masks and figures of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import explorer as ep
from explorer.actions.loaded import LoadedModel
from explorer.core.errors import ExplorerError, MaskError, SettingsError
from explorer.masks.apply import apply
from explorer.measure.evaluate import evaluate
from explorer.models import load
from explorer.tasks import Task
from tests import tiny


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return ep.load(str(tiny.save("gpt2", tmp_path_factory.mktemp("widget") / "model")))


@pytest.fixture
def widget(loaded: LoadedModel, tiny_task: Task) -> Any:
    return ep.widget.prune(loaded, tiny_task, "L0.K.H1", "L1.OUT", limit=4)


def click(widget: Any, seq: int, matrix: str, index: int) -> None:
    points = [[matrix, [index, index + 1]]]
    widget.log_sent = {
        "epoch": widget.data["epoch"],
        "have": [],
        "picks": [{"seq": seq, "kind": "click", "points": points}],
    }


def removed(widget: Any) -> list[tuple[str, int]]:
    return [(one.matrix, one.index) for one in widget.mask.removed]


def test_clicks_remove_and_restore_and_are_counted_once(widget: Any, loaded: LoadedModel, tiny_task: Task) -> None:
    told: list[int] = []
    widget.observe(lambda change: told.append(len(change["new"])), "mask")
    click(widget, 1, "L1.OUT", 2)
    click(widget, 2, "L0.K.H1", 0)
    click(widget, 2, "L0.K.H1", 0)  # said once more
    assert removed(widget) == [("L0.K.H1", 0), ("L1.OUT", 2)]
    scores = loaded.score(tiny_task)
    assert {(one.matrix, one.index): one.c for one in widget.mask.removed} == {
        (one.matrix, one.index): pytest.approx(one.c, abs=1e-9)
        for one in (scores.removed(key, i) for _, key, i in scores.ranking() if (str(key), i) in removed(widget))
    }
    click(widget, 3, "L1.OUT", 2)
    assert told == [1, 2, 1]
    assert [len(mask) for mask in widget.history] == [0, 1, 2, 1]
    assert widget.data["handled"] == 3


def test_figures_are_those_of_the_engine_and_the_model_stays(widget: Any, loaded: LoadedModel, tiny_task: Task) -> None:
    before = {name: one.clone() for name, one in loaded.weights().items()}
    click(widget, 1, "L1.OUT", 0)
    view = load(loaded.source.name, dtype="float32", device="cpu").view()
    plain = evaluate(view, tiny_task, "test", limit=4)
    apply(view, widget.mask, loaded.svds)
    assert widget.comparison.masked.loss == pytest.approx(evaluate(view, tiny_task, "test", limit=4).loss, abs=1e-6)
    assert widget.comparison.baseline.loss == pytest.approx(plain.loss, abs=1e-6)
    assert f"{widget.comparison.masked.mean_loss.value:.3f}" in widget.figures[2][3]
    assert all(bool((one == before[name]).all()) for name, one in loaded.weights().items())


def test_what_a_browser_should_not_send_does_nothing(widget: Any) -> None:
    for nonsense in (
        {},
        {"epoch": "x", "picks": []},
        {"epoch": widget.data["epoch"], "picks": [{"seq": "1"}, 7, None]},
    ):
        widget.log_sent = nonsense
    click(widget, 9, "L5.K", 0)
    click(widget, 10, "L1.OUT", 999)
    assert removed(widget) == []


def test_a_mask_can_be_set_but_not_anothers(widget: Any, loaded: LoadedModel, tmp_path: Path) -> None:
    click(widget, 1, "L1.OUT", 1)
    mask = widget.mask
    widget.mask = mask.without_all()
    assert removed(widget) == []
    widget.mask = mask
    assert [one["removed"] for one in widget.data["series"]][1] != "AAAA"
    other = ep.load(str(tiny.save("llama", tmp_path / "other")))
    with pytest.raises(MaskError):
        widget.mask = ep.empty_mask(other)
    assert widget.mask == mask


def test_arrays_go_only_to_a_browser_that_lacks_them(widget: Any) -> None:
    arrays = widget.data["arrays"]
    assert arrays
    widget.log_sent = {"epoch": widget.data["epoch"], "have": list(arrays), "picks": []}
    assert widget.data["arrays"] == {}
    widget.log_sent = {"epoch": widget.data["epoch"], "have": [], "picks": []}
    assert widget.data["arrays"] == arrays


def test_without_a_task_nothing_is_scored_or_frozen(loaded: LoadedModel) -> None:
    widget = ep.widget.spectrum(loaded, "L0.K.H1")
    assert widget.data["series"][0]["score"] is None
    click(widget, 1, "L0.K.H1", 0)
    assert (widget.mask.mode, widget.mask.removed[0].c, widget.comparison) == ("zero", 0.0, None)


def test_what_cannot_be_shown_is_a_sentence(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no matrix is named"):
        ep.widget.spectrum(loaded)
    with pytest.raises(ExplorerError, match="is not a matrix key"):
        ep.widget.spectrum(loaded, "K0")
    monkeypatch.setattr("explorer.widget.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"eigenprune-explorer\[notebook\]"):
        ep.widget.spectrum(loaded, "L0.K.H1")
