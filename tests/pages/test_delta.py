"""The basis delta on the pages: what an adapter changed, chosen in the sidebar, and matrices that it did not change."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from streamlit.testing.v1 import AppTest

from explorer.models import load
from tests.commands import report
from tests.pages.app import PAGES, click, copied, go, open_page, plain, removed_line, sentences, settled
from tests.siblings import tuned_bundled

RANK = 2


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the bundled model that changes Q, K and V of layer 0 and OUT of layer 2."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(4)
    tensors = {}
    for module, d_in, d_out in (("h.0.attn.c_attn", 128, 384), ("h.2.mlp.c_proj", 512, 128)):
        tensors[f"base_model.model.transformer.{module}.lora_A.weight"] = 0.1 * torch.randn(RANK, d_in)
        tensors[f"base_model.model.transformer.{module}.lora_B.weight"] = 0.1 * torch.randn(d_out, RANK)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}))
    return folder


def opened(adapter: Path, title: str, **query: str) -> AppTest:
    app = open_page(title, adapter=str(adapter), basis="delta", base="bundled", **query)
    asks = any(button.key == "load-linked" for button in app.button)
    return click(app, "load-linked") if asks else app


def test_every_page_shows_a_difference(adapter: Path) -> None:
    app = opened(adapter, "Spectra", matrix="L2.OUT_L1.OUT_L0.K.H1")
    assert not sentences(app)
    table = app.dataframe[0].value.set_index("matrix")
    assert table["values"].tolist() == [RANK, 0, RANK]
    assert table["null_count"].tolist() == [128 - RANK, 128, 32 - RANK]
    for title in PAGES:
        app = go(app, title)
        assert not sentences(app), title
    app = click(go(app, "Prune"), "remove-lowest")
    assert "4 removed in" in removed_line(app)
    (command,) = copied(go(app, "Spectra"), "spectra").commands
    told = report(*shlex.split(command)[1:])
    assert told["model_digest"] == load(f"bundled+adapter={adapter}", basis="delta", against="bundled").digest
    assert [one["rank"] for one in told["spectra"]] == [RANK, 0, RANK]


def test_matrices_that_were_not_changed_are_said_to_be_so(adapter: Path) -> None:
    app = opened(adapter, "Prune", kinds="IN")
    assert any("changed none of them" in one.value for one in app.info)
    assert not sentences(app)
    app = go(app, "Spectra")
    assert not sentences(app)
    assert len(app.dataframe[0].value) == 1


def test_without_a_base_the_page_asks_for_it(adapter: Path) -> None:
    app = open_page("Spectra", basis="delta")
    assert any("needs the base model" in one.value for one in app.info)
    app.text_input(key="base").set_value("bundled")
    app = settled(app.run())
    assert any("has the same matrices as" in one for one in sentences(app))
    app.text_input(key="base").set_value("./gone")
    app = settled(app.run())
    assert any("is not there" in plain(one) for one in sentences(app))


def test_checkpoints_of_training_are_drawn(tmp_path: Path) -> None:
    tuned = tuned_bundled(tmp_path / "tuned")
    app = open_page("Spectra", matrix="L2.OUT_L0.K.H1", over=f"bundled\n{tuned}")
    assert any("asks for the model" in one.value for one in app.info)
    app = click(app, "load-linked-over-1")
    assert not sentences(app)
    drawn = [json.loads(one.proto.spec) for one in app.get("plotly_chart") if "over training" in one.proto.spec]
    assert [one["layout"]["title"]["text"] for one in drawn] == ["L2.OUT over training", "L0.K.H1 over training"]
    (command,) = copied(app, "over").commands
    first = report(*shlex.split(command)[1:])["over"][0]
    assert [stage["checkpoint"] for stage in first["stages"]] == ["bundled", str(tuned), "bundled"]
    assert first["stages"][1]["with_last"]["left"] < first["stages"][0]["with_last"]["left"]
