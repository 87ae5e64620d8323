"""The gain slider on the Prune page: what the engine measures for the softer mask, and words that never say removed."""

from __future__ import annotations

import json
from statistics import median

from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.masks.links import link_text
from explorer.ui.components import words
from explorer.ui.jobs.work import CONTROL_DRAWS
from tests.pages.app import Engine, captions, click, figures, go, mask_in, open_page, settled, token, upload
from tests.pages.test_prune import CHART, check_figures
from tests.picks import send_pick


def slide(app: AppTest, gain: float) -> AppTest:
    return settled(app.select_slider(key="gain").set_value(gain).run())


def state(app: AppTest) -> str:
    """The sidebar's line on the mask."""
    (line,) = (text.value for text in app.sidebar.markdown if text.value.startswith("**") and text.value[2].isdigit())
    return line.replace("*", "")


def everything_said(app: AppTest) -> str:
    """All text of the page but the history, which says what was."""
    texts = [one.value for kind in (app.markdown, app.caption, app.info, app.subheader) for one in kind]
    widgets = (*app.button, *app.metric, *app.multiselect, *app.selectbox, *app.select_slider, *app.get("button_group"))
    labels = [one.proto.label for one in widgets]
    helps = [one.proto.help for one in app.metric]
    columns = [column.get("label", "") for one in app.data_editor for column in json.loads(one.proto.columns).values()]
    return "\n".join([*texts, *labels, *helps, *columns])


def test_the_slider_scales_what_is_chosen_and_the_figures_follow(engine: Engine, scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    hard = engine.lowest(scores, 4)
    assert state(app).startswith("4 removed in ")
    for gain in (0.5, 0.85):
        app = slide(app, gain)
        check_figures(app, engine, hard.scaled(gain), scores)
        assert state(app).startswith(f"4 scaled to {100 * gain:.4g} % in ")
        assert f"sum of 4 scores × {100 * (1 - gain):.4g} %" in captions(app)
    app = slide(app, 0.0)
    check_figures(app, engine, hard, scores)
    assert state(app).startswith("4 removed in ")
    steps = next(one for one in app.radio if one.label == "Steps, newest first").options
    assert [step.split(". ", 1)[1] for step in steps] == [
        "removed (4 removed)", "scaled to 85 % (4 scaled to 85 %)", "scaled to 50 % (4 scaled to 50 %)",
        "lowest 4 (4 removed)", "start (0 removed)",
    ]  # fmt: skip
    app = click(click(app, "undo"), "undo")
    check_figures(app, engine, hard.scaled(0.5), scores)
    assert app.select_slider(key="gain").value == 0.5
    assert mask_in(app).provenance == hard.provenance


def test_what_is_scaled_is_never_called_removed(engine: Engine, scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    assert "removed" in everything_said(app)
    app = slide(app, 0.5)
    assert "removed" not in everything_said(app)
    assert app.button(key="remove-lowest").label == "Scale 4 lowest"
    for title in ("Overview", "Scores", "Activations", "Masks"):
        app = go(app, title)
        said = "\n".join(one.value for kind in (app.markdown, app.caption, app.subheader) for one in kind)
        assert "removed" not in said, title
    assert "What a scaled value wrote" in [one.value for one in go(app, "Activations").subheader]


def test_choosing_more_keeps_the_gain(engine: Engine, scores: Scores) -> None:
    app = slide(open_page("Prune"), 0.25)
    assert state(app) == "0 scaled to 25 %"
    app.toggle(key="by_block").set_value(False).run()
    worst = scores.ranking()[0][1]
    app = settled(send_pick(app, CHART, {str(worst): [3]}))
    expected = engine.lowest(scores, 0).scaled(0.25).with_removed([scores.removed(worst, 3)])
    check_figures(app, engine, expected, scores)
    assert mask_in(app).provenance.scorer == "gradient"
    app = click(app, "remove-lowest")
    check_figures(app, engine, engine.lowest(scores, 4).scaled(0.25), scores)
    app = click(app, "restore-all")
    assert (len(mask_in(app)), mask_in(app).gain) == (0, 0.25)


def test_random_masks_are_scaled_as_the_mask_is(engine: Engine, scores: Scores) -> None:
    app = click(click(open_page("Prune"), "remove-lowest"), "controls")
    for gain in (0.0, 0.5):
        app = slide(app, gain)
        drawn = [engine.random(scores, engine.lowest(scores, 4), seed).scaled(gain) for seed in range(CONTROL_DRAWS)]
        found = [engine.compare(mask).masked.accuracy for mask in drawn]
        assert figures(app)["Random masks, same size"] == words.percent(median(found))


def test_links_files_and_reloads_bring_the_gain(engine: Engine, scores: Scores) -> None:
    soft = engine.lowest(scores, 3).scaled(0.333)
    app = open_page("Prune", mask=link_text(soft))
    check_figures(app, engine, soft, scores)
    assert app.select_slider(key="gain").value == 0.333
    assert app.query_params["mask"] == link_text(soft)
    again = open_page("Prune", session=token(app))
    assert mask_in(again).digest == soft.digest
    app = upload(open_page("Prune"), soft.to_json().encode())
    check_figures(app, engine, soft, scores)
