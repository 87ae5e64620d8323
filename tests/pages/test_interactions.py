"""The tab Interactions of Prune: the engine's figures, the best beginning of the order as the mask, and its code."""

from __future__ import annotations

from typing import Any

import pytest

from explorer.attribution import Scores
from explorer.attribution.interactions import Interactions, interactions
from explorer.measure.batches import batches
from explorer.plots.interactions import shortest
from explorer.tasks import load_task
from tests.pages.app import Engine, captions, click, copied, mask_in, open_page, settled

LINK = {"section": "together", "together-count": "5", "together-examples": "24"}


@pytest.fixture(scope="module")
def found(engine: Engine, scores: Scores) -> Interactions:
    task = load_task("int-mult")
    return interactions(
        engine.view, batches(engine.view, task, task.train[:24]), engine.svds,
        removed=engine.lowest(scores, 5).removed,
    )  # fmt: skip


def table(app: Any) -> Any:
    (shown,) = (one.value for one in app.dataframe if "so far" in one.value.columns)
    return shown


def test_nothing_is_measured_before_it_is_asked_for_and_then_all_is(found: Interactions) -> None:
    app = open_page("Prune", **LINK)
    assert "At most 31 masks on 24 examples" in captions(app)
    app = click(app, "measure-together")
    shown = table(app)
    assert [(one.matrix, one.index) for one in (found.values[step.value] for step in found.greedy)] == list(
        zip(shown["matrix"], shown["i"], strict=True)
    )
    assert shown["so far"].tolist() == pytest.approx([one.effect for one in found.greedy], abs=1e-6)
    assert shown["alone"].tolist() == pytest.approx([found.values[one.value].effect for one in found.greedy], abs=1e-6)
    value, stderr = found.together
    assert any(f"All 5 together: {value:+.3f} ± {stderr:.3f} nats" in one.value for one in app.markdown)
    app = click(app, "keep-best")
    wanted = {
        (found.values[one.value].matrix, found.values[one.value].index) for one in found.greedy[: shortest(found)]
    }
    assert {(one.matrix, one.index) for one in mask_in(app).removed} == wanted


def test_it_is_copied_and_too_many_values_are_said(engine: Engine) -> None:
    app = open_page("Prune", **LINK)
    (command,) = copied(app, "together").commands
    assert command.startswith("eigenprune interactions --model bundled --task int-mult --mask")
    assert "--limit 24" in command
    app = settled(app.selectbox(key="together-values").set_value("the mask's").run())
    assert "For 2 to 32 values; these are 0." in captions(app)
    assert app.button(key="measure-together").disabled
