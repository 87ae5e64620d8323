"""A mask carried over to another task or model on the Masks page: the engine's numbers, and the command's."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.experiments.transfer import refreeze, transfer
from explorer.masks.apply import apply, identity
from explorer.masks.library import Library, id_of
from explorer.masks.mask import Mask, load_mask
from explorer.measure.evaluate import evaluate
from explorer.measure.paired import mcnemar
from explorer.models import View, load
from explorer.tasks import load_task
from tests import tiny
from tests.commands import report
from tests.pages.app import Engine, captions, choose, click, copied, open_page, plain, sentences, settled
from tests.pages.test_masks import filled, names, select
from tests.siblings import tuned_bundled

pytestmark = pytest.mark.usefixtures("empty_library")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_bundled(tmp_path_factory.mktemp("tuned"))


def figures(app: AppTest) -> pd.DataFrame:
    """The table of the unpruned model, the mask as it is and the transferred one."""
    (found,) = (one.value for one in app.dataframe if "transferred" in list(one.value.get("mask", ())))
    return found.set_index("mask")


def accuracies(engine: Engine, view: View, masks: list[Mask], task: str) -> list[tuple[float, tuple[bool, ...]]]:
    """Accuracy in percent and what was right, under each mask."""
    found = []
    for mask in masks:
        apply(view, mask, engine.svds)
        one = evaluate(view, load_task(task), "validation")
        found.append((100 * one.accuracy, one.correct))
    apply(view, masks[0].without_all(), engine.svds)
    return found


def commanded(app: AppTest) -> Any:
    """What the copied command reports."""
    (command,) = copied(app, "transfer").commands
    words = shlex.split(command)
    assert words[0] == "eigenprune"
    return report(*words[1:])


def test_another_task_gets_its_own_frozen_means(
    engine: Engine, scores: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mask,) = filled(engine, scores, 6)
    app = choose(select(open_page("Masks"), 0), "transfer-task", "int-sum")
    assert not [one for one in app.dataframe if "transferred" in list(one.value.get("mask", ()))]
    app = click(app, "transfer")
    made = refreeze(engine.view, mask, engine.svds, load_task("int-sum"))
    shown = figures(app)
    found = accuracies(engine, engine.view, [mask.without_all(), mask, made], "int-sum")
    assert list(shown.index) == ["unpruned", "as it is", "transferred"]
    assert list(shown["accuracy"]) == pytest.approx([accuracy for accuracy, _ in found])
    for name, (_, right) in zip(("as it is", "transferred"), found[1:], strict=True):
        test = mcnemar(right, found[0][1])
        assert (shown.loc[name, "repaired"], shown.loc[name, "broken"]) == (test.repaired, test.broken)
        assert shown.loc[name, "p"] == pytest.approx(test.p)
    told = plain("\n".join(one.value for one in app.markdown))
    assert f"McNemar p = {mcnemar(found[2][1], found[1][1]).p:.2g}" in told.split("From the mask as it is")[1]

    given = commanded(app)
    assert given["mask"]["mask_digest"] == made.digest
    assert 100 * given["tasks"][0]["masked"]["accuracy"] == pytest.approx(shown.loc["transferred", "accuracy"])
    assert given["tasks"][0]["masked"]["loss"] == pytest.approx(shown.loc["transferred", "loss"], rel=1e-5)
    assert 100 * given["tasks"][0]["baseline"]["accuracy"] == pytest.approx(shown.loc["unpruned", "accuracy"])
    assert load_mask(tmp_path / "transferred.mask.json") == made

    app.text_input(key="transfer-name").set_value("for sums")
    app = click(app, "transfer-save")
    entry = Library.default().get(id_of(made))
    assert (entry.name, entry.about.fork_of, entry.mask) == ("for sums", id_of(mask), made)
    assert names(app) == ["for sums", "lowest 6"]
    app = click(select(app, 1), "transfer")
    assert "The transferred mask is in the library as **for sums**" in captions(app)


def test_a_fine_tuned_sibling_gets_the_mask(
    engine: Engine, scores: Scores, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (mask,) = filled(engine, scores, 4)
    app = choose(select(open_page("Masks"), 0), "transfer-task", "int-mult")
    app = click(choose(app, "transfer-model", str(tuned)), "transfer")
    view = load(str(tuned)).view()
    made = transfer(view, mask, engine.svds, load_task("int-mult"))
    shown = figures(app)
    assert list(shown.index) == ["unpruned", "transferred"]  # as it is, the mask fits its own model only
    found = accuracies(engine, view, [made.without_all(), made], "int-mult")
    assert list(shown["accuracy"]) == pytest.approx([accuracy for accuracy, _ in found])
    given = commanded(app)
    assert given["mask"]["mask_digest"] == made.digest
    assert given["model_digest"] == made.model.digest == identity(view.model).digest
    assert given["tasks"][0]["masked"]["loss"] == pytest.approx(shown.loc["transferred", "loss"], rel=1e-5)
    app = click(app, "transfer-save")
    saved = Library.default().get(id_of(made))
    assert saved.name == f"lowest 4 for int-mult on {tuned.name}"
    assert names(app) == ["lowest 4"]  # the new one belongs to the other model
    assert app.toggle(key="every-model").label == "Also show 1 of other models"


def test_a_mask_of_another_model_comes_to_this_one(engine: Engine, scores: Scores, tuned: Path) -> None:
    theirs = transfer(load(str(tuned)).view(), engine.lowest(scores, 3), engine.svds, load_task("int-mult"))
    Library.default().save(theirs, "theirs")
    app = settled(open_page("Masks").toggle(key="every-model").set_value(True).run())
    app = click(choose(select(app, 0), "transfer-task", "int-sum"), "transfer")
    made = transfer(engine.view, theirs, engine.svds, load_task("int-sum"))
    found = accuracies(engine, engine.view, [made.without_all(), made], "int-sum")
    assert list(figures(app)["accuracy"]) == pytest.approx([accuracy for accuracy, _ in found])
    click(app, "transfer-save")
    assert Library.default().get(id_of(made)).mask == made


def test_what_changes_nothing_says_so(engine: Engine, scores: Scores) -> None:
    zero = engine.lowest(engine.scores(mode="zero"), 3)
    Library.default().save(zero, "zero")
    filled(engine, scores, 5)
    app = choose(select(open_page("Masks"), 0), "transfer-task", "int-mult")
    app = click(app, "transfer")
    assert any("comes out as the mask that it was" in info.value for info in app.info)
    app = select(app, 1)
    assert app.button(key="transfer").disabled
    assert "set to zero, not frozen" in captions(app)


def test_a_model_of_other_shapes_and_a_task_of_other_words_are_sentences(
    engine: Engine, scores: Scores, tmp_path: Path
) -> None:
    filled(engine, scores, 3)
    app = choose(select(open_page("Masks"), 0), "transfer-task", "int-mult")
    app = click(choose(app, "transfer-model", str(tiny.save("llama", tmp_path / "llama"))), "transfer")
    assert sentences(app)
    assert not [one for one in app.dataframe if "transferred" in list(one.value.get("mask", ()))]
    app = settled(app.selectbox(key="transfer-model").set_value(None).run())
    app = click(choose(app, "transfer-task", "greater-than"), "transfer")
    (sentence,) = sentences(app)
    assert "the tokenizer does not know all of" in sentence


def test_the_limit_holds_for_means_and_figures(engine: Engine, scores: Scores) -> None:
    (mask,) = filled(engine, scores, 3)
    app = choose(select(open_page("Masks", eval_limit="32"), 0), "transfer-task", "int-sum")
    app = click(app, "transfer")
    made = refreeze(engine.view, mask, engine.svds, load_task("int-sum"), limit=32)
    assert list(figures(app)["n"]) == [32] * 3
    given = copied(app, "transfer")
    assert "--limit 32" in given.commands[0]
    assert "limit=32)" in given.python[0]
    click(app, "transfer-save")
    assert Library.default().get(id_of(made)).mask == made
