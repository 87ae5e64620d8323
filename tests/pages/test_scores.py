"""The Scores page on the bundled model: ranking, filters, exact effects, removing and restoring."""

from __future__ import annotations

import json
import shlex

import pandas as pd
import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.attribution import Options, Scores, score
from explorer.attribution.exact import Value, exact_effects
from explorer.core.keys import Kind
from explorer.experiments.study.trust import trust
from explorer.masks.links import link_text
from explorer.measure.batches import batches
from explorer.measure.metrics import Mean
from explorer.models.matrices import matrices
from explorer.tasks import load_task
from explorer.ui.components import words
from explorer.ui.scores.value_rows import values
from tests.commands import run
from tests.pages.app import Engine, click, copied, go, mask_in, open_page, sentences, settled

pytestmark = pytest.mark.usefixtures("nothing_measured")

TASK = load_task("int-mult")


def table(app: AppTest, name: str = "ranking") -> pd.DataFrame:
    (found,) = (one for one in app.dataframe if f"-{name}-" in one.proto.id)
    return found.value


def tables(app: AppTest) -> list[str]:
    return [name for name in ("ranking", "offenders") if any(f"-{name}-" in one.proto.id for one in app.dataframe)]


def select(app: AppTest, rows: list[int], name: str = "ranking", press: str | None = None) -> AppTest:
    """Select rows of a table, and press a button while they are.

    AppTest cannot select and forgets selections, so this writes the states that the browser would send.
    """
    (found,) = (one for one in app.dataframe if f"-{name}-" in one.proto.id)
    selection = json.dumps({"selection": {"rows": rows, "columns": [], "cells": []}})
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=found.proto.id, string_value=selection))
    app = settled(app._run(states))
    if press is None:
        return app
    app.button(key=press).click()
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=found.proto.id, string_value=selection))
    return settled(app._run(states))


def effects(engine: Engine, wanted: tuple[Value, ...], mask: object = None) -> dict[Value, Mean]:
    cut = batches(engine.view, TASK, TASK.split("train", None))
    return dict(exact_effects(engine.view, cut, engine.svds, wanted, mask=mask).values)  # type: ignore[arg-type]


def state(app: AppTest) -> str:
    (line,) = (text.value for text in app.markdown if "Accuracy, validation" in text.value)
    return line


def test_the_ranking_is_the_engines(scores: Scores) -> None:
    app = open_page("Scores")
    found = table(app)
    assert list(values(found)) == [(key, index) for _, key, index in scores.ranking()]
    assert found["score"].tolist() == pytest.approx([value for value, _, _ in scores.ranking()])
    assert tables(app) == ["ranking"]
    assert any("None of these values has been measured" in info.value for info in app.info)
    assert app.button(key="remove-selected").disabled
    assert not sentences(app)


def test_no_scores_yet_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.ui.jobs import work

    monkeypatch.setattr(work, "ranked", lambda *_, **__: None)
    app = open_page("Scores")
    assert any("No scores yet" in info.value for info in app.info)
    assert not tables(app)


def test_filters_narrow_the_table_and_an_empty_result_is_said(scores: Scores) -> None:
    app = open_page("Scores")
    app.multiselect(key="score-kinds").set_value([Kind.K])
    app.multiselect(key="score-layers").set_value([0])
    app.selectbox(key="score-sign").set_value("harmful")
    app = settled(app.run())
    expected = [
        (key, index) for value, key, index in scores.ranking() if key.kind is Kind.K and key.layer == 0 and value < 0
    ]
    assert list(values(table(app))) == expected
    app.number_input(key="score-least").set_value(1000.0)
    app = settled(app.run())
    assert any("No value passes these filters" in info.value for info in app.info)
    assert not tables(app)
    app = go(go(app, "Prune"), "Scores")  # filters outlast a change of page
    assert any("No value passes these filters" in info.value for info in app.info)


def test_all_kinds_and_standard_errors(engine: Engine) -> None:
    app = open_page("Scores")
    app.toggle(key="every-kind").set_value(True)
    app.toggle(key="score-errors").set_value(True)
    app = settled(app.run())
    keys = matrices(engine.view)
    expected = score(engine.view, TASK, engine.svds, keys, options=Options(bootstrap=100))
    found = table(app)
    assert len(found) == expected.size
    _, key, index = expected.ranking()[0]
    assert values(found)[0] == (key, index)
    errors = expected.matrices[key].stderr
    assert errors is not None
    assert found["stderr"].iloc[0] == pytest.approx(float(errors[index]), rel=1e-4)


def test_measuring_shows_exact_effects_their_agreement_and_the_worst(engine: Engine, scores: Scores) -> None:
    app = open_page("Scores")
    app = click(app, "measure-these")
    wanted = tuple((key, index) for _, key, index in scores.ranking()[:8])
    exact = effects(engine, wanted)
    found = table(app)
    assert found["exact"].tolist()[:8] == pytest.approx([exact[value].value for value in wanted], rel=1e-4)
    assert found["exact_stderr"].tolist()[:8] == pytest.approx([exact[value].stderr for value in wanted], rel=1e-3)
    assert found["exact"].isna().sum() == len(found) - 8
    off = {value: abs(float(scores.matrices[value[0]].score[value[1]]) - exact[value].value) for value in wanted}
    assert table(app, "offenders")["error"].tolist() == pytest.approx(sorted(off.values(), reverse=True), rel=1e-3)
    (agreement,) = (one.value for one in app.dataframe if "agreement" in one.proto.id or "spearman" in one.value)
    whole = trust([float(scores.matrices[key].score[i]) for key, i in wanted], [exact[one].value for one in wanted])
    line = agreement.set_index("kind").loc["all"]
    assert (line["n"], line["spearman"], line["sign_agreement"]) == (
        8,
        pytest.approx(whole.spearman),
        whole.sign_agreement,
    )
    (lowest,) = (one.value.set_index(["kind", "count"]) for one in app.dataframe if "regret" in one.value)
    by_effect = sorted(exact[value].value for value in wanted)
    four = [exact[value].value for value in wanted[:4]]  # the ranking's first
    line = lowest.loc[("all", 4)]
    assert line["regret"] == pytest.approx((sum(four) - sum(by_effect[:4])) / 4, abs=1e-5)
    assert line["precision"] == sum(effect <= by_effect[3] for effect in four) / 4
    (chart,) = (json.loads(one.proto.spec) for one in app.get("plotly_chart"))
    names = [name for trace in chart["data"] for name in trace.get("ids", [])]
    assert sorted(names) == sorted(f"{key} {index}" for key, index in wanted)
    assert table(open_page("Scores"))["exact"].notna().sum() == 8  # another session finds them measured


def test_a_masks_gain_does_not_touch_what_removing_a_value_does(engine: Engine, scores: Scores) -> None:
    """Scores of the unpruned model predict whole removals, so these are what is measured, and what the code gives."""
    app = open_page("Scores", mask=link_text(engine.lowest(scores, 2).scaled(0.5)))
    app.number_input(key="measure-count").set_value(3)
    app = click(settled(app.run()), "measure-these")
    exact = effects(engine, tuple((key, index) for _, key, index in scores.ranking()[:3]))
    expected = [one.value for one in exact.values()]
    assert table(app)["exact"].tolist()[:3] == pytest.approx(expected, rel=1e-4)
    command = copied(app, "effects").commands[0]
    report = json.loads(run(*shlex.split(command)[1:]).stdout)
    assert [one["exact"] for one in report["values"]] == pytest.approx(expected, rel=1e-4)


def test_a_spread_sample_and_selected_rows_can_be_measured(scores: Scores) -> None:
    app = open_page("Scores")
    app.button_group(key="measure-which").set_value("spread out")
    app.number_input(key="measure-count").set_value(3)
    app = click(settled(app.run()), "measure-these")
    middle = round((scores.size - 1) / 2)
    assert table(app).index[table(app)["exact"].notna()].tolist() == [0, middle, scores.size - 1]
    app = select(app, [5, 7], press="measure-these")
    assert table(app).index[table(app)["exact"].notna()].tolist() == [0, 5, 7, middle, scores.size - 1]


def test_selected_rows_are_removed_restored_and_undone(engine: Engine, scores: Scores) -> None:
    app = open_page("Scores")
    wanted = [(key, index) for _, key, index in scores.ranking()[:3]]
    app = select(app, [0, 1, 2], press="remove-selected")
    expected = engine.lowest(scores, 3)
    assert mask_in(app).digest == expected.digest
    assert mask_in(app).provenance.scorer == "gradient"
    assert table(app)["removed"].tolist()[:4] == [True, True, True, False]
    after = engine.compare(expected)
    shown = words.accuracy(after.masked), f"unpruned {words.percent(after.baseline.accuracy)}"
    assert all(text.replace(" %", "\u00a0%") in state(app) for text in shown)
    assert app.button(key="remove-selected").disabled  # still selected, and removed
    app = select(app, [1], press="restore-selected")
    assert [(one.key, one.index) for one in mask_in(app).removed] == sorted([wanted[0], wanted[2]])
    app = click(click(app, "undo"), "undo")
    assert len(mask_in(app)) == 0


def test_the_worst_offender_opens_in_spectra() -> None:
    app = click(open_page("Scores"), "measure-these")
    (key, index), *_ = values(table(app, "offenders"))
    app = select(app, [0], "offenders", press="open-selected")
    assert [one.value for one in app.title] == ["Spectra"]
    assert app.dataframe[0].value["matrix"].tolist() == [str(key)]
    assert app.number_input(key=f"readout-index-{key}").value == index
    assert not app.warning


def test_scores_and_exact_effects_at_the_mask(engine: Engine, scores: Scores) -> None:
    app = select(open_page("Scores"), [0, 1], press="remove-selected")
    app.toggle(key="score-at-mask").set_value(True)
    app = settled(app.run())
    mask = engine.lowest(scores, 2)
    now = score(engine.view, TASK, engine.svds, matrices(engine.view, (Kind.Q, Kind.K)), mask=mask)
    assert values(table(app)) == tuple((key, index) for _, key, index in now.ranking())
    assert table(app)["at_mask"].tolist() == pytest.approx([value for value, _, _ in now.ranking()], abs=1e-6)
    app.number_input(key="measure-count").set_value(2)
    app = click(settled(app.run()), "measure-these")
    wanted = tuple((key, index) for _, key, index in now.ranking()[:2])
    exact = effects(engine, wanted, mask)
    assert table(app)["exact"].tolist()[:2] == pytest.approx([exact[one].value for one in wanted], abs=1e-5)
    app = click(app, "undo")  # without a mask there is nothing to score at
    assert app.toggle(key="score-at-mask").disabled
    assert values(table(app)) == tuple((key, index) for _, key, index in scores.ranking())
    assert table(app)["exact"].isna().all()
    assert not sentences(app)


def test_all_rows_that_pass_the_filters_can_be_measured(engine: Engine, scores: Scores) -> None:
    app = open_page("Scores")
    app.multiselect(key="score-kinds").set_value([Kind.K])
    app.multiselect(key="score-layers").set_value([1])
    app = settled(app.run())
    app.button_group(key="measure-which").set_value("all")
    app = settled(app.run())
    assert app.number_input(key="measure-count").disabled
    app = click(app, "measure-these")
    wanted = tuple((key, i) for _, key, i in scores.ranking() if key.kind is Kind.K and key.layer == 1)
    found = table(app)
    assert values(found) == wanted
    exact = effects(engine, wanted)
    assert found["exact"].tolist() == pytest.approx([exact[value].value for value in wanted], rel=1e-4, abs=1e-6)
    command = next(one for one in copied(app, "effects").commands if "--all" in one)
    assert "--kinds" in command


def test_a_failed_measurement_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.core.errors import MatrixError
    from explorer.ui.jobs import work

    def fail(*_: object, **__: object) -> None:
        raise MatrixError("L0.Q.H0 cannot be measured: choose another.")

    monkeypatch.setattr(work, "exact_effects", fail)
    app = click(open_page("Scores"), "measure-these")
    assert sentences(app) == ["L0.Q.H0 cannot be measured: choose another."]
    assert tables(app) == ["ranking"]
