"""The Masks page, the history and the forks in the sidebar, links, and what a view gives as command and as Python."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.masks.library import ABOUT, Library, id_of
from explorer.masks.links import INLINE, link_text
from explorer.masks.mask import Mask, load_mask
from explorer.measure.paired import mcnemar
from explorer.ui.components import words
from explorer.ui.session.history import Lines
from explorer.ui.session.session import Masks
from tests.pages.app import (
    APP,
    Engine,
    captions,
    click,
    figures,
    go,
    held,
    mask_in,
    open_page,
    plain,
    removed_line,
    sentences,
    settled,
)

pytestmark = pytest.mark.usefixtures("empty_library")

ROOT = Path(APP).parent


def filled(engine: Engine, scores: Scores, *counts: int) -> list[Mask]:
    """A library with the masks of so many lowest-scored values, in this order on the page."""
    masks = [engine.lowest(scores, count) for count in counts]
    for mask in reversed(masks):
        Library.default().save(mask, f"lowest {len(mask)}")
    return masks


def table(app: AppTest) -> Any:
    (found,) = (one for one in app.dataframe if "from" in one.value.columns)
    return found


def names(app: AppTest) -> list[str]:
    return list(table(app).value["name"])


def select(app: AppTest, *rows: int) -> AppTest:
    """Select rows of the table, as the browser sends it; AppTest has no way of its own."""
    state = json.dumps({"selection": {"rows": list(rows), "columns": [], "cells": []}})
    states = app._tree.get_widget_states()
    states.widgets.append(WidgetState(id=table(app).proto.id, string_value=state))
    return settled(app._run(states))


def keys(app: AppTest) -> set[str]:
    return {str(button.key) for button in app.button}


# ---- the library


def test_an_empty_library_says_what_to_do() -> None:
    app = open_page("Masks")
    assert "The library holds no masks of this model yet" in app.info[0].value
    assert app.button(key="save").disabled
    assert not app.dataframe


def test_a_saved_mask_is_there_after_a_restart_and_opens_as_a_step(engine: Engine, scores: Scores) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    mask = mask_in(app)
    app = go(app, "Masks")
    app.text_input(key="save-name").set_value("my *first*")
    app = click(app, "save")
    assert names(app) == ["● my *first*"]
    assert "in the library as **my *first***" in captions(app)
    assert app.button(key="save").disabled
    (entry,) = Library.default().list().entries
    assert load_mask(entry.path) == mask

    other = select(open_page("Masks"), 0)
    assert removed_line(other) == "0 removed"
    other = click(other, "entry-open")
    assert mask_in(other) == mask
    assert app_steps(other) == ["start", "opened my *first*"]
    assert len(mask_in(click(other, "undo"))) == 0


def test_names_and_notes_can_be_changed(engine: Engine, scores: Scores) -> None:
    (mask,) = filled(engine, scores, 3)
    app = select(open_page("Masks"), 0)
    id = id_of(mask)
    app.text_input(key=f"name-{id}").set_value("better name")
    app.text_area(key=f"notes-{id}").set_value("![x](http://e.example)\nsecond line")
    app = settled(app.run())
    about = Library.default().get(id).about
    assert (about.name, about.notes) == ("better name", "![x](http://e.example)\nsecond line")
    assert names(app) == ["better name"]
    app.text_input(key=f"name-{id}").set_value("   ")
    app = settled(app.run())
    assert "give the mask one of 1 to 120" in sentences(app)[0]
    assert Library.default().get(id).name == "better name"


def test_deleting_is_undone_by_a_click(engine: Engine, scores: Scores) -> None:
    filled(engine, scores, 2, 3, 4)
    app = select(open_page("Masks"), 0, 2)
    app = click(app, "delete-many")
    assert names(app) == ["lowest 3"]
    app = click(app, "undo-delete")
    assert names(app) == ["lowest 2", "lowest 3", "lowest 4"]
    app = click(select(app, 1), "entry-delete")
    id = id_of(engine.lowest(scores, 3))
    app = click(app, f"restore-{id}")
    assert sorted(names(app)) == ["lowest 2", "lowest 3", "lowest 4"]


def test_several_files_are_imported_and_the_bad_ones_said(engine: Engine, scores: Scores) -> None:
    good, twice = engine.lowest(scores, 2), engine.lowest(scores, 5)
    foreign = engine.lowest(scores, 3).model_copy(
        update={"model": good.model.model_copy(update={"digest": "sha256:" + "0" * 64})}
    )
    Library.default().save(twice, "there already")
    app = open_page("Masks")
    (box,) = (one for one in app.file_uploader if one.label == "Mask files")
    files = {"a.mask.json": good.to_json(), "b.json": twice.to_json(), "c.json": "{", "d.json": foreign.to_json()}
    box.set_value([(name, text.encode(), "application/json") for name, text in files.items()])
    app = settled(app.run())
    assert sorted(names(app)) == ["a", "there already"]
    assert [sentence.split(":")[0] for sentence in sentences(app)] == ["b.json", "c.json is not a usable mask file"]
    app = settled(app.toggle(key="every-model").set_value(True).run())
    assert sorted(names(app)) == ["a", "d", "there already"]
    app = select(app, names(app).index("d"))
    assert any("the mask was made for" in sentence for sentence in sentences(app))
    app = click(app, "entry-open")
    assert removed_line(app) == "0 removed"


def test_a_broken_file_is_a_sentence_and_the_rest_works(engine: Engine, scores: Scores) -> None:
    first, _ = filled(engine, scores, 2, 3)
    path = Library.default().folder / f"{id_of(first)}{ABOUT}"
    path.write_text("[")
    app = open_page("Masks")
    assert names(app) == ["lowest 3"]
    assert any("is not usable" in plain(warning.value) for warning in app.warning)


@pytest.mark.parametrize("how", ["union", "intersection", "first without second", "second without first"])
def test_two_masks_combine_into_a_new_one(engine: Engine, scores: Scores, how: str) -> None:
    first = engine.lowest(scores, 6)
    second = engine.random(scores, first, seed=1)
    second = second.with_removed(first.removed[:2])
    for name, mask in (("b", second), ("a", first)):
        Library.default().save(mask, name)
    app = select(open_page("Masks"), 0, 1)
    app.selectbox(key="combine-2").set_value(how)
    app.text_input(key="combine-name").set_value("made")
    app = click(app, "combine-go")
    (made,) = (entry.mask for entry in Library.default().list().entries if entry.name == "made")
    sets = [{(one.matrix, one.index) for one in mask.removed} for mask in (first, second)]
    expected = {
        "union": sets[0] | sets[1],
        "intersection": sets[0] & sets[1],
        "first without second": sets[0] - sets[1],
        "second without first": sets[1] - sets[0],
    }[how]
    assert {(one.matrix, one.index) for one in made.removed} == expected
    assert names(app)[0] == "made"


def test_a_majority_of_three_and_a_combination_that_is_there_already(engine: Engine, scores: Scores) -> None:
    masks = filled(engine, scores, 2, 4, 6)
    app = select(open_page("Masks"), 0, 1, 2)
    app.selectbox(key="combine-3").set_value("majority")
    app = click(app, "combine-go")
    assert sentences(app) == ["this mask is in the library already, as 'lowest 4': open or rename that one."]
    assert len(Library.default().list().entries) == len(masks)


def test_two_masks_are_compared_as_the_engine_measures_them(engine: Engine, scores: Scores) -> None:
    first, second = filled(engine, scores, 4, 9)
    app = select(open_page("Masks"), 0, 1)
    before, after = (engine.compare(mask).masked for mask in (first, second))
    (shown,) = (one.value for one in app.dataframe if "loss error" in one.value.columns)
    assert list(shown["mask"]) == ["lowest 4", "lowest 9"]
    for (_, row), one in zip(shown.iterrows(), (before, after), strict=True):
        assert row["accuracy"] == pytest.approx(100 * one.accuracy)
        assert (row["low"], row["high"]) == pytest.approx([100 * bound for bound in one.accuracy_interval])
        assert (row["loss"], row["loss error"]) == pytest.approx((one.mean_loss.value, one.mean_loss.stderr))
    text = plain("\n".join(one.value for one in app.markdown))
    test = mcnemar(after.correct, before.correct)
    assert f"McNemar p = {test.p:.2g} ({test.repaired} repaired, {test.broken} broken)" in text
    assert "4 values in both, 0 only in the first, 5 only in the second; Jaccard index 0.44" in text.replace("*", "")
    (differing,) = (one.value for one in app.dataframe if "first says" in one.value.columns)
    expected = [i for i in range(before.n) if before.answers[i] != after.answers[i]]
    assert sorted(differing["prompt"]) == sorted(before.examples[i].prompt for i in expected)


def test_one_mask_is_compared_with_the_current_one_and_measured_elsewhere(engine: Engine, scores: Scores) -> None:
    (mask,) = filled(engine, scores, 4)
    app = select(open_page("Masks"), 0)
    assert any("the unpruned model and lowest 4" in plain(one.value) for one in app.subheader)
    app.multiselect(key="other-tasks").set_value(["int-sum", "greater-than"])
    app = settled(app.run())
    found = engine.compare(mask, "int-sum")
    (rows,) = (one.value for one in app.dataframe if "task" in one.value.columns and "p" in one.value.columns)
    assert list(rows["task"]) == ["int-sum"]
    row = rows.iloc[0]
    for side, one in (("masked", found.masked), ("unpruned", found.baseline)):
        bounds = [100 * bound for bound in one.accuracy_interval]
        assert row[f"{side} accuracy"] == pytest.approx(100 * one.accuracy)
        assert (row[f"{side} low"], row[f"{side} high"]) == pytest.approx(bounds)
    assert (row["repaired"], row["broken"]) == (found.accuracy_test.repaired, found.accuracy_test.broken)
    assert (row["loss low"], row["loss high"]) == pytest.approx(found.loss_interval())
    (refused,) = sentences(app)  # the bundled tokenizer knows other numbers only
    assert "the tokenizer does not know all of the answer" in refused


# ---- history and forks


def app_lines(app: AppTest) -> Lines:
    (lines,) = held(app, Masks).of.values()
    assert isinstance(lines, Lines)
    return lines


def app_steps(app: AppTest) -> list[str]:
    return [step.label for step in app_lines(app).history.steps]


def step_radio(app: AppTest) -> Any:
    (radio,) = (one for one in app.radio if one.label == "Steps, newest first")
    return radio


def test_one_can_jump_in_the_history_on_every_page() -> None:
    app = open_page("Prune")
    for count in (2, 3):
        app.number_input(key="k").set_value(count)
        app = click(app, "remove-lowest")
    app = click(app, "restore-all")
    assert app_steps(app) == ["start", "lowest 2", "lowest 3", "restored all"]
    for title in ("Overview", "Spectra", "Masks"):
        app = go(app, title)
        options = [plain(one) for one in step_radio(app).options]
        assert options == [
            "3. restored all (0 removed)", "2. lowest 3 (3 removed)", "1. lowest 2 (2 removed)", "0. start (0 removed)",
        ]  # fmt: skip
    app = settled(step_radio(app).set_value(1).run())
    assert len(mask_in(app)) == 2
    app = click(app, "redo")
    assert len(mask_in(app)) == 3
    assert step_radio(app).value == 2


def test_forks_have_masks_and_undo_of_their_own_and_survive_a_reload() -> None:
    app = click(open_page("Prune"), "remove-lowest")
    assert not [box for box in app.selectbox if box.key == "fork"]
    app.text_input(key="fork-name").set_value("bold <b>")
    app = click(app, "fork-here")
    app = click(app, "restore-all")
    assert removed_line(app) == "0 removed"
    app = settled(app.selectbox(key="fork").set_value("main").run())
    assert removed_line(app).startswith("4 removed")
    again = open_page("Prune", session=app.query_params["session"])
    assert app_lines(again) == app_lines(app)
    again = settled(again.selectbox(key="fork").set_value("bold <b>").run())
    assert removed_line(again) == "0 removed"
    again = click(again, "undo")
    assert removed_line(again).startswith("4 removed")
    again = click(again, "fork-close")
    assert app_lines(again).names == ("main",)
    assert app_lines(click(again, "fork-reopen")).names == ("main", "bold <b>")


def test_a_fork_of_a_taken_name_is_a_sentence() -> None:
    app = open_page("Prune")
    app.text_input(key="fork-name").set_value("main")
    app = click(app, "fork-here")
    assert "there is a fork 'main' already" in sentences(app)[0]
    assert app_lines(app).names == ("main",)


# ---- links


def test_a_link_opens_the_same_view(engine: Engine) -> None:
    mask = engine.lowest(engine.scores(mode="zero"), 7)
    app = open_page("Prune", task="int-mult", mask=link_text(mask), plot="L0.K.H1_L9.Q.H0_L1.Q.H2", split="test")
    assert mask_in(app).digest == mask.digest
    found = engine.compare(mask, split="test").masked
    assert figures(app)["Accuracy, test"] == words.percent(found.accuracy)
    assert figures(app)["Loss, test"] == f"{found.mean_loss.value:.3f} nats"
    (plot,) = (box for box in app.multiselect if box.label.startswith("Matrices: click a point"))
    assert plot.value == ["L0.K.H1", "L1.Q.H2"]  # layer 9 is not in this model
    assert app_steps(app) == ["start", "from a link"]
    assert len(mask_in(click(app, "undo"))) == 0


def test_a_link_names_matrices_of_the_spectra_page() -> None:
    app = open_page("Overview", matrix="L1.K.H2_L0.OUT")
    app = go(app, "Spectra")
    assert list(app.dataframe[0].value["matrix"]) == ["L1.K.H2", "L0.OUT"]
    app.selectbox(key="spectra-layer").set_value(2)
    app = settled(app.run())
    assert app.query_params["matrix"] in ("L2.K.H2_L0.OUT", ["L2.K.H2_L0.OUT"])


def test_a_long_mask_goes_by_its_id_in_the_workspace(engine: Engine, scores: Scores) -> None:
    mask = engine.lowest(scores, INLINE + 5)
    app = open_page("Prune", mask=link_text(mask))
    assert "is not in this workspace: ask for its file" in sentences(app)[0]
    assert removed_line(app) == "0 removed"
    Library.default().keep(mask)
    assert mask_in(open_page("Prune", mask=link_text(mask))) == mask


def test_a_bad_or_foreign_link_is_a_sentence(engine: Engine, scores: Scores) -> None:
    text = link_text(engine.lowest(scores, 2))
    for bad, reason in (
        (text[:-8], "cut off or changed"),
        (text.replace(text.split("~")[1], "0" * 12), "made for other weights (000000000000...)"),
        ("../../etc/passwd", "cut off or changed"),
        (text.replace("_", "_9"), ""),  # an index that the matrix does not have
    ):
        app = open_page("Prune", mask=bad)
        assert reason in sentences(app)[0]
        assert removed_line(app) == "0 removed"


def test_the_url_follows_the_mask(engine: Engine) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    assert one_of(app, "mask") == link_text(mask_in(app))
    app = click(go(app, "Masks"), "undo")
    assert "mask" not in app.query_params


def one_of(app: AppTest, name: str) -> str:
    value = app.query_params[name]
    return value if isinstance(value, str) else value[-1]


# ---- as command and as Python


def shared(app: AppTest) -> list[str]:
    """What the Share popover offers to copy."""
    app.session_state["share"] = True
    return [one.value for one in settled(app.run()).code]


def run(code: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(code, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_command_and_python_give_the_numbers_of_the_page() -> None:
    app = open_page("Prune")
    app.select_slider(key="eval_limit-all").set_value(32)
    app = click(settled(app.run()), "remove-lowest")
    shown = figures(app)
    link, evaluate, damage, evaluate_python, damage_python = shared(app)
    assert link.split("?")[1].startswith("eval_limit=32&model=bundled&task=int-mult&mask=f~")
    assert "session" not in link

    report = json.loads(run([sys.executable, "-m", "explorer", *shlex.split(evaluate)[1:]]))
    assert words.percent(report["accuracy"]) == shown["Accuracy, validation"]
    assert f"{report['loss']:.3f} nats" == shown["Loss, validation"]
    assert report["mask_digest"] == mask_in(app).digest

    printed = run([sys.executable, "-c", evaluate_python])
    assert json.loads(printed) == report

    found = [json.loads(run(code)) for code in (
        [sys.executable, "-m", "explorer", *shlex.split(damage)[1:]], [sys.executable, "-c", damage_python],
    )]  # fmt: skip
    for one in found:
        assert words.percent(one["tasks"][0]["masked"]["accuracy"]) == shown["Accuracy, validation"]
    assert found[0]["text"] == found[1]["text"]
    assert found[0]["tasks"] == found[1]["tasks"]


def test_without_a_mask_the_unpruned_model_is_measured() -> None:
    app = open_page("Prune")
    _, evaluate, code = shared(app)
    assert "--mask" not in evaluate
    assert "apply(" not in code
