"""Prune's list of what a claim about the mask needs: each figure is that of the engine, and changes ask anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.masks.apply import apply
from explorer.measure.evaluate import evaluate
from explorer.tasks import load_task
from tests.commands import run
from tests.pages.app import Engine, click, copied, look, mask_in, open_page, settled


def rows(app: AppTest) -> list[str]:
    """What stands beside the needs, in order."""
    return [one.value for one in app.markdown]


@pytest.fixture
def on_claim(engine: Engine) -> AppTest:
    """A mask by one click, and its tab open."""
    return look(click(open_page("Prune"), "remove-lowest"), "For a claim")


def test_nothing_removed_is_nothing_to_claim() -> None:
    app = look(open_page("Prune"), "For a claim")
    assert any("nothing to claim" in one.value for one in app.info)


def test_each_figure_is_the_command_s(on_claim: AppTest, tmp_path: Path) -> None:
    assert sum(":gray[missing]" in one for one in rows(on_claim)) == 8
    app = click(on_claim, "claim-mean-only")
    mask = mask_in(app)
    mask.save(tmp_path / "m.json")
    words = ("--model", "bundled", "--mask", tmp_path / "m.json", "--task", "int-mult", "--controls", 0, "--json")
    report = json.loads(run("mask", "evidence", *words, "--nulls", "mean-only").stdout)
    expected = report["evidence"]["rivals"]["mean-only"]["accuracy"][0]
    assert any(one.startswith(f"{100 * expected:.1f} %; the mask leads by") for one in rows(app))
    assert sum(":gray[missing]" in one for one in rows(app)) == 7
    assert report["evidence"]["sentence"] in [one.value.replace("\\", "") for one in app.success]
    (command,) = copied(app, "claim").commands
    assert "mask evidence" in command
    assert "--nulls mean-only" in command


def test_the_mask_and_the_unpruned_model_are_those_of_the_test_split(on_claim: AppTest, engine: Engine) -> None:
    task = load_task("int-mult")
    app = click(on_claim, "claim-mean-only")
    found = []
    for mask in (mask_in(app).without_all(), mask_in(app)):
        apply(engine.view, mask, engine.svds)
        found.append(evaluate(engine.view, task, "test").accuracy)
    apply(engine.view, mask_in(app).without_all(), engine.svds)
    (sentence,) = (one.value for one in app.success)
    assert f"{100 * found[0]:.1f} % to {100 * found[1]:.1f} %" in sentence.replace("\\", "")


def test_a_mask_made_by_clicks_says_how_its_task_was_asked(on_claim: AppTest) -> None:
    """Without that, what its scores read would be taken for the splits of before, of which the test split has twins."""
    assert mask_in(on_claim).provenance.task_digest == load_task("int-mult").digest
    app = click(on_claim, "claim-mean-only")
    assert any("0 were read themselves to find the mask, a twin of 0" in one.value for one in app.caption)


def test_another_mask_has_nothing_measured(on_claim: AppTest) -> None:
    app = click(on_claim, "claim-mean-only")
    app = click(app, "undo")
    app.number_input(key="k").set_value(7)
    app = click(settled(app.run()), "remove-lowest")
    app = look(app, "For a claim")
    assert sum(":gray[missing]" in one for one in rows(app)) == 8
    assert not app.success


def test_another_task_is_not_measured_before_it_is_asked_for(on_claim: AppTest) -> None:
    app = click(on_claim, "claim-mean-only")
    app.selectbox(key="task").set_value("capitals")
    app = look(settled(app.run()), "For a claim")
    assert sum(":gray[missing]" in one for one in rows(app)) == 8
    assert not any("measuring" in one for one in rows(app))
    assert not app.success


def test_figures_of_the_test_split_on_screen_are_warned_of(on_claim: AppTest) -> None:
    on_claim.button_group(key="split").set_value("test")
    app = settled(on_claim.run())
    assert any("a mask that is chosen by them cannot be claimed by them" in one.value for one in app.caption)
