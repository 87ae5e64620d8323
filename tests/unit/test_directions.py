"""Masks of two models: numpy's principal angles between what they remove."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.core.keys import MatrixKey
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.models import View, load
from explorer.models.matrices import read_base
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.commands import refused, report
from tests.unit.models.test_delta import perturbed

FIRST, SECOND = {"L0.V": (0, 2), "L1.OUT": (1,)}, {"L0.V": (1, 2, 3), "L0.K.H1": (0,)}


def mask_of(view: View, svds: SvdCache, places: dict[str, tuple[int, ...]], file: Path) -> Mask:
    removed = [
        Removed(matrix=key, index=i, sigma=float(svds.get(view, MatrixKey.parse(key)).s[i]))
        for key, indices in places.items()
        for i in indices
    ]
    mask = empty_mask(view.model, "zero").with_removed(removed)
    mask.save(file)
    return mask


def test_overlaps_are_those_of_numpy(folder: Path, arch: str, svds: SvdCache, tmp_path: Path) -> None:
    tuned = perturbed(folder, tmp_path / "tuned")
    views = [load(str(one), dtype="float32").view() for one in (folder, tuned)]
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for view, places, file in zip(views, (FIRST, SECOND), files, strict=True):
        mask_of(view, svds, places, file)
    found = report("mask", "compare", *files, "--model", folder, "--second-model", tuned)
    assert (found["model"], found["second_model"]) == (str(folder), str(tuned))
    rows = {one["matrix"]: one for one in found["matrices"]}
    assert {name: (one["first"], one["second"]) for name, one in rows.items()} == {
        "L0.V": (2, 3), "L1.OUT": (1, 0), "L0.K.H1": (0, 1),
    }  # fmt: skip
    assert rows["L1.OUT"]["left"] is rows["L0.K.H1"]["chance_right"] is None
    (u, _, vh), (other_u, _, other_vh) = (
        np.linalg.svd(read_base(view, MatrixKey.parse("L0.V")).double().numpy(), full_matrices=False) for view in views
    )
    a, b = list(FIRST["L0.V"]), list(SECOND["L0.V"])
    assert rows["L0.V"]["left"] == pytest.approx(np.square(u[:, a].T @ other_u[:, b]).sum() / 2, abs=1e-5)
    assert rows["L0.V"]["right"] == pytest.approx(np.square(vh[a] @ other_vh[b].T).sum() / 2, abs=1e-5)
    assert rows["L0.V"]["chance_left"] == pytest.approx(3 / u.shape[0])
    same = report("mask", "compare", files[0], files[0], "--model", folder, "--second-model", folder)
    assert all(one["left"] == pytest.approx(1.0, abs=1e-6) for one in same["matrices"])
    torch.manual_seed(0)
    said = refused("mask", "compare", *files, "--model", folder, "--second-model", folder)
    assert "the mask was made for" in said
    other = tiny.save("llama" if arch == "gpt2" else "gpt2", tmp_path / "other")
    mask_of(load(str(other), dtype="float32").view(), svds, {"L0.V": (0,)}, tmp_path / "c.json")
    said = refused("mask", "compare", files[0], tmp_path / "c.json", "--model", folder, "--second-model", other)
    assert "only equal shapes are compared" in said
