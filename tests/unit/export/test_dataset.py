"""The data set against numpy, plain arithmetic, and a model that is pruned by hand from its rows alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from datasets import load_dataset
from pyarrow import parquet

from explorer.core.errors import ExportError
from explorer.core.keys import Kind, MatrixKey
from explorer.export import FORMATS
from explorer.export.base import Order
from explorer.export.dataset import TABLES
from explorer.export.run import Exported, export
from explorer.masks.mask import Mask
from explorer.models import View
from explorer.spectra.cache import SvdCache
from tests import plain, removal, tiny
from tests.unit.export.conftest import MaskMaker, in_process

KINDS = (Kind.Q, Kind.V, Kind.OUT)


@pytest.fixture
def mask(view64: View, some_values: MaskMaker) -> Mask:
    return some_values(view64, KINDS)


@pytest.fixture
def made(view64: View, mask: Mask, svds: SvdCache, tmp_path: Path) -> Exported:
    order = Order("dataset", tmp_path / "out", (tiny.task(),))
    return export(view64, mask, svds, order=order, forms=FORMATS, run=in_process)


def test_a_row_is_a_value_with_what_plain_arithmetic_says_of_it(made: Exported, mask: Mask, plain64: Any) -> None:
    values = pd.read_parquet(made.folder / "values.parquet")
    assert list(values) == list(TABLES["values"])
    assert set(values["kind"]) == set(KINDS)
    for name, rows in values.groupby("matrix"):
        s = plain.svd(plain64, MatrixKey.parse(name))[1]
        np.testing.assert_allclose(rows.sort_values("index")["sigma"], s, rtol=0, atol=1e-8)
    removed = values[values["removed"]]
    assert {(one.matrix, one.index): one.c for one in mask.removed} == {
        (row["matrix"], row["index"]): row["c"] for row in removed.to_dict("records")
    }
    assert values["exact"].notna().equals(values["removed"])
    for row in removed.to_dict("records"):
        key = MatrixKey.parse(row["matrix"])
        svd = plain.svd(plain64, key)
        loss = removal.removal_path(plain64, key, svd, row["index"], row["c"], tiny.task())
        assert row["exact"] == pytest.approx(loss(1) - loss(0), abs=1e-6)
        assert row["score"] == pytest.approx(removal.derivative(loss), abs=1e-6)


def test_the_rows_of_removed_values_are_the_whole_edit(
    made: Exported, mask: Mask, plain64: Any, tmp_path: Path
) -> None:
    removed = load_dataset(str(made.folder), "removed", split="train", cache_dir=str(tmp_path / "cache"))
    assert removed.column_names == list(TABLES["removed"])
    tokens = torch.tensor([[0, 5, 9, 3, 11, 7]])
    with torch.no_grad():
        by_hand = removal.masked(plain64, mask)(tokens).logits
        hooks = [
            plain64.get_submodule(row["module"]).register_forward_hook(
                lambda module, inputs, y, row=row: (
                    y + (inputs[0] @ exact(row["reads"]) - row["offset"])[..., None] * exact(row["writes"])
                )
            )
            for row in removed
        ]
        rebuilt = plain64(tokens).logits
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(rebuilt, by_hand, rtol=0, atol=1e-5)
    assert (plain64(tokens).logits - by_hand).abs().max() > 1e-3
    assert made.checked.difference <= made.checked.limit
    assert made.checked.client.startswith("datasets ")


def test_another_folder_of_the_same_name_is_not_taken_from_the_cache(
    view64: View, mask: Mask, svds: SvdCache, tmp_path: Path
) -> None:
    found = []
    for gone in (mask, mask.without({(mask.removed[0].matrix, mask.removed[0].index)})):
        order = Order("dataset", tmp_path / "out", (tiny.task(),), force=True)
        export(view64, gone, svds, order=order, forms=FORMATS, run=in_process)
        rows = load_dataset(str(tmp_path / "out"), "removed", split="train", cache_dir=str(tmp_path / "cache"))
        found.append(len(rows))
    assert found == [len(mask), len(mask) - 1]


def exact(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_its_card_names_tables_columns_and_the_mask(made: Exported, mask: Mask, view64: View) -> None:
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    header = yaml.safe_load(card.split("---\n")[1])
    assert {one["config_name"]: one["data_files"] for one in header["configs"]} == {
        name: f"{name}.parquet" for name in TABLES
    }
    for name, columns in TABLES.items():
        assert all(f"| {column} | {about} |" in card for column, about in columns.items())
        said = json.loads(parquet.read_schema(made.folder / f"{name}.parquet").metadata[b"eigenprune"])
        assert said["mask_digest"] == mask.digest
    assert "Table values" in card
    assert mask.digest in card
    assert "exact effects of 6 of the 6 removed ones" in " ".join(made.notes)
    assert view64.applied == {}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.assign(offset=3.0), r"datasets .* differs by"),
        (lambda rows: rows[1:], "do not name the same"),
    ],
)
def test_rows_that_are_not_the_edit_are_found(
    view64: View, mask: Mask, svds: SvdCache, tmp_path: Path, damage: Any, said: str
) -> None:
    def read_damaged(job: Any, file: Path) -> None:
        path = Path(job["folder"]) / "removed.parquet"
        damage(pd.read_parquet(path)).to_parquet(path)
        in_process(job, file)

    order = Order("dataset", tmp_path / "out", (tiny.task(),))
    with pytest.raises((ExportError, RuntimeError), match=said):
        export(view64, mask, svds, order=order, forms=FORMATS, run=read_damaged)
    assert list(tmp_path.iterdir()) == []
