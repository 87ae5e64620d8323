"""A second model on the Spectra page, and other layers: what is shown is what the engine finds; nothing is reloaded."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.core.keys import MatrixKey, parse_key
from explorer.models import load
from explorer.spectra.measures import summarise
from explorer.spectra.model_diff import compare_matrix
from explorer.ui.jobs.cached import runner
from tests import tiny
from tests.commands import run
from tests.pages.app import (
    Engine,
    captions,
    choose,
    click,
    copied,
    every_copied,
    go,
    open_page,
    plain,
    sentences,
    settled,
)
from tests.siblings import tuned_bundled

KEYS = ("L0.K.H1", "L2.OUT", "L1.QK.H0")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_bundled(tmp_path_factory.mktemp("tuned"))


def compared(tuned: Path, keys: tuple[str, ...] = KEYS) -> AppTest:
    """A link to the comparison; a model that only a link names is loaded once the reader agrees."""
    app = open_page("Spectra", matrix="_".join(keys), against=str(tuned))
    asks = any(button.key == "load-linked-second" for button in app.button)
    return click(app, "load-linked-second") if asks else app


def changes(app: AppTest) -> Any:
    (table,) = (one.value for one in app.dataframe if "overlap u" in str(one.proto.columns) or "u chance" in one.value)
    return table.set_index("matrix")


def test_both_models_stand_side_by_side(engine: Engine, tuned: Path) -> None:
    app = compared(tuned)
    assert not sentences(app)
    other = load(str(tuned)).view()
    named = f"L0.K.H1 of {tuned.name}"
    sizes, tails = (app.dataframe[place].value.set_index("matrix") for place in (0, 1))
    assert sizes.index.tolist() == tails.index.tolist() == ["L0.K.H1", named, *KEYS[1:]]
    for view, row in ((engine.view, "L0.K.H1"), (other, named)):
        found = engine.svds.get(view, MatrixKey.parse("L0.K.H1"))
        summary = summarise(found.s, found.u.shape[0], found.vh.shape[1])
        assert sizes.loc[row, "stable_rank"] == pytest.approx(summary.stable_rank)
        assert tails.loc[row, "alpha"] == pytest.approx(summary.power_law.alpha if summary.power_law else None)
    app = settled(app.number_input(key="overlap-k-32").set_value(5).run())
    table = changes(app)
    assert table.index.tolist() == list(KEYS)
    for name in KEYS:
        found = compare_matrix(engine.view, other, parse_key(name), engine.svds)
        overlap, row = found.overlap(5), table.loc[name]
        assert row["size"] == pytest.approx(found.size)
        assert row["stable_rank"] == pytest.approx(found.rank.stable_rank)
        assert tuple(row[["50%", "90%", "99%"]]) == found.rank.energy_counts
        assert (row["u"], row["v"]) == pytest.approx((overlap.left.similarity, overlap.right.similarity))
        assert (row["u chance"], row["v chance"]) == pytest.approx((5 / found.shape[0], 5 / found.shape[1]))
    assert table.loc["L2.OUT", "90%"] == 1  # the planted change has rank 1
    (energy,) = (one.proto.spec for one in app.get("plotly_chart") if "Cumulative energy" in one.proto.spec)
    assert [trace["name"] for trace in json.loads(energy)["data"]][:2] == ["L0.K.H1", named]


def test_the_command_gives_the_pages_numbers(tuned: Path) -> None:
    app = compared(tuned, ("L2.OUT",))
    (line,) = copied(app, "against").commands
    (found,) = json.loads(run(*shlex.split(line)[1:]).stdout)["against"]["matrices"]
    row = changes(app).loc["L2.OUT"]
    assert found["difference_size"] == pytest.approx(row["size"])
    assert found["left"]["similarity"] == pytest.approx(row["u"])
    assert found["k"] == app.number_input(key="overlap-k-128").value


def test_comparing_never_reloads_a_model(tuned: Path) -> None:
    app = compared(tuned)
    keys = (("model", "bundled", "raw", None), ("second", str(tuned), "raw", None))
    loaded = {key: runner().find(key) for key in keys}
    assert all(loaded.values())
    app = go(go(settled(app.run()), "Prune"), "Spectra")
    for name in ("Next", "Previous"):
        app = click(app, f"{name.lower()}-matrix")
    assert {key: runner().find(key) for key in loaded} == loaded
    assert app.selectbox(key="against").value == str(tuned)  # the choice outlasts a change of page
    app = choose(app, "model", str(tuned))  # held as the second one: not loaded twice
    own, second = (runner().find((sort, str(tuned), "raw", None)) for sort in ("model", "second"))
    assert own is not None
    assert second is not None
    assert own.result is second.result.model
    assert any("same weights" in info.value for info in app.info)


def test_the_url_keeps_the_second_model(tuned: Path) -> None:
    app = open_page("Spectra")
    assert "against" not in app.query_params
    app = choose(app, "against", str(tuned))
    assert app.query_params["against"] in (str(tuned), [str(tuned)])
    assert "What changed between" in " ".join(one.value for one in app.subheader)
    app = settled(app.selectbox(key="against").set_value(None).run())
    assert "against" not in app.query_params
    assert "What changed between" not in " ".join(one.value for one in app.subheader)


def test_what_cannot_be_compared_is_a_sentence(tmp_path: Path) -> None:
    app = compared(tmp_path / "nowhere", ("L0.K.H1",))
    assert any("is not there" in one for one in sentences(app))
    assert app.dataframe[0].value["matrix"].tolist() == ["L0.K.H1"]  # the page goes on without it
    app = compared(tiny.save("llama", tmp_path / "llama"), ("L0.K.H1", "L3.OUT"))
    (warning,) = (plain(one.value) for one in app.warning)
    assert "L0.K.H1 is 128 x 32 in the base model, 16 x 6 in the other" in warning
    assert "And 1 more like it" in warning
    shapes = app.dataframe[0].value[["d_in", "d_out"]].to_numpy().tolist()
    assert shapes == [[128, 32], [16, 6], [512, 128]]  # both spectra are shown
    assert "against" not in every_copied(app)


def test_a_matrix_is_taken_in_every_layer_or_every_other_one() -> None:
    app = open_page("Spectra", matrix="L1.K.H2")
    app = click(app, "layers-take")
    layers = [0, 2, 3]
    assert app.dataframe[0].value["matrix"].tolist() == ["L1.K.H2", *(f"L{layer}.K.H2" for layer in layers)]
    app = settled(app.number_input(key="layers-every").set_value(2).run())
    app = click(app, "layers-take")
    assert app.dataframe[0].value["matrix"].tolist() == ["L1.K.H2", "L3.K.H2"]


def test_previous_and_next_matrix(engine: Engine) -> None:
    app = open_page("Spectra", matrix="L0.Q.H3")
    for name, expected in (("next", "L0.K"), ("next", "L0.K.H0"), ("previous", "L0.K"), ("previous", "L0.Q.H3")):
        app = click(app, f"{name}-matrix")
        assert app.dataframe[0].value["matrix"].tolist() == [expected]
    assert open_page("Spectra", matrix="L0.Q").button(key="previous-matrix").disabled  # canonical order begins here
    app = open_page("Prune")
    order = list(dict.fromkeys(str(key) for _, key, _ in engine.scores().ranking()))
    (box,) = (one for one in app.multiselect if one.label.startswith("Matrices: click a point"))
    assert box.value == order[:1]
    for place, name in ((1, "next"), (2, "next"), (1, "previous")):
        app = click(app, f"{name}-matrix")
        (box,) = (one for one in app.multiselect if one.label.startswith("Matrices: click a point"))
        assert box.value == [order[place]]
    assert app.query_params["plot"] in (order[1], [order[1]])
    assert "Keys do nothing while you type" in captions(app)
