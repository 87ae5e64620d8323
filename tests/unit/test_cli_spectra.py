"""`spectra`, `spectrum` and `readout`, and the folded basis, against numpy and the engine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.actions.readout import ReadoutResult
from explorer.actions.spectra import Against, Angles, CheckpointRow, MatrixChange, Spectrum
from explorer.attribution.exact import exact_effects
from explorer.core.keys import CircuitKey, MatrixKey, parse_key
from explorer.masks.mask import load_mask
from explorer.measure.batches import batches
from explorer.measure.readout import readouts
from explorer.models import Model, load
from explorer.models.matrices import matrices, read, shape
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import decompose_circuit
from explorer.spectra.measures import summarise
from explorer.spectra.svd import decompose
from explorer.tasks import load_task
from tests import tiny
from tests.commands import keys_of, refused, report, run
from tests.siblings import low_rank, tuned


def check_measures(entry: dict[str, Any], W: Any) -> None:
    """Every measure, from numpy's singular values of W (of which a product has fewer)."""
    s = np.linalg.svd(W, compute_uv=False)[: entry["rank"]]
    energy = np.cumsum(s**2) / np.sum(s**2)
    assert entry["shape"] == list(W.shape)
    assert entry["singular_values"] == pytest.approx(s, rel=1e-4, abs=1e-9)
    assert entry["participation_ratio"] == pytest.approx(np.sum(s**2) ** 2 / np.sum(s**4), rel=1e-4)
    assert entry["condition_number"] == pytest.approx(s[0] / s[-1], rel=1e-3)
    assert entry["energy_counts"] == [1 + int(np.argmax(energy >= share)) for share in (0.5, 0.9, 0.99)]
    found = summarise(decompose(np_tensor(W)).s[: len(s)], *W.shape)
    assert found.power_law is not None
    assert entry["power_law"]["alpha"] == pytest.approx(found.power_law.alpha, rel=1e-3)
    assert set(entry["power_law"]) == {"alpha", "stderr", "xmin", "tail", "distance"}
    if found.bulk_edge is None:
        assert (entry["bulk_edge"], entry["above_bulk"]) == (None, None)
    else:
        assert entry["bulk_edge"] == pytest.approx(found.bulk_edge, rel=1e-4)
        assert entry["above_bulk"] == int(np.sum(s > entry["bulk_edge"]))


def np_tensor(W: Any) -> Any:
    import torch

    return torch.tensor(W, dtype=torch.float64)


def test_spectra_hold_every_measure_of_matrices_and_products(model64: Model, folder: Path) -> None:
    names = ["L1.K.H1", "L0.OUT", "L1.QK.H2", "L0.OV.H0"]
    options = [word for name in names for word in ("--matrix", name)]
    found = report("spectra", "--model", folder, *options)["spectra"]
    assert [entry["matrix"] for entry in found] == names
    view = model64.view()
    for entry in found:
        assert set(entry) == set(keys_of(Spectrum))
        key = parse_key(entry["matrix"])
        product = isinstance(key, CircuitKey)
        W = (decompose_circuit(view, key).recompose() if product else read(view, key)).numpy()  # type: ignore[arg-type]
        check_measures(entry, W)
    table = run("spectra", "--model", folder, *options, "--top", 1).stdout
    for word in ("particip.", "condition", "50/90/99 %", "power-law", "bulk", *names):
        assert word in table


@pytest.mark.slow
def test_a_fine_tune_is_compared_with_its_base(model: Model, arch: str, folder: Path, tmp_path: Path) -> None:
    key = MatrixKey.parse("L1.V")
    sibling = tuned(model, arch, tmp_path / "tuned", {key: low_rank(*shape(model.view(), key), 1)})
    common = ("spectra", "--model", folder, "--matrix", key, "--matrix", "L0.OUT", "--against", sibling)
    found = report(*common, "--overlap", 3)
    against = found["against"]
    assert set(against) == set(keys_of(Against))
    assert (against["model"], against["basis"]) == (str(sibling), "raw")
    assert against["model_digest"] == load(str(sibling)).digest != found["model_digest"]
    W, W_other = (read(load(str(one)).view(), key).double().numpy() for one in (folder, sibling))
    changed, same = against["matrices"]
    assert [one["matrix"] for one in against["matrices"]] == [str(key), "L0.OUT"]
    assert set(changed) == set(keys_of(MatrixChange))
    check_measures(changed["other"], W_other)
    s, s_other, moved = (np.linalg.svd(one, compute_uv=False) for one in (W, W_other, W_other - W))
    assert changed["relative_change"] == pytest.approx((s_other - s) / s, abs=1e-4)
    assert changed["difference"]["singular_values"] == pytest.approx(moved, abs=1e-6)
    assert changed["difference"]["energy_counts"] == [1, 1, 1]  # the fine-tune has rank 1
    assert changed["difference_size"] == pytest.approx(np.linalg.norm(W_other - W) / np.linalg.norm(W), rel=1e-4)
    assert (same["difference_size"], same["left"]["similarity"]) == (0.0, pytest.approx(1.0))
    for side, axis in (("left", 0), ("right", 1)):
        assert set(changed[side]) == set(keys_of(Angles))
        assert (len(changed[side]["cosines"]), changed["k"], changed[side]["dimension"]) == (3, 3, W.shape[axis])
        assert changed[side]["chance_similarity"] == 3 / W.shape[axis]
    assert report(*common[:5])["against"] is None
    table = run(*common, "--overlap", 3, "--top", 2).stdout
    for words in ("The difference W' - W", "Overlap of the k leading", "relative change"):
        assert words in table
    assert f"({changed['left']['chance_similarity']:.3f})" in table


@pytest.mark.slow
def test_models_that_cannot_be_compared_are_refused(arch: str, folder: Path, tmp_path: Path) -> None:
    other = tiny.save("llama" if arch == "gpt2" else "gpt2", tmp_path / "other")
    common = ("spectra", "--model", folder, "--against", other, "--matrix")
    assert "only matrices of one shape have a difference" in refused(*common, "L0.OUT")
    assert "does not have it" in refused(*common, "L0.Q.H3" if arch == "llama" else "L0.K.H2")
    assert "is not there" in refused(*common[:3], "--against", "./nowhere", "--matrix", "L0.OUT")


@pytest.mark.parametrize("per_head", [True, False])
def test_a_checkpoint_gives_one_line_per_matrix(model64: Model, folder: Path, per_head: bool) -> None:
    words = ("spectrum", "--checkpoint", folder, "--kinds", "K,OUT", "--layers", "1", *(["--per-head"] * per_head))
    rows = [json.loads(line) for line in run(*words, "--json").stdout.splitlines()]
    view = model64.view()
    keys = [key for key in matrices(view, per_head=per_head) if key.layer == 1 and key.kind in ("K", "OUT")]
    assert [row["matrix"] for row in rows] == [str(key) for key in keys]
    for key, row in zip(keys, rows, strict=True):
        assert set(row) == set(keys_of(CheckpointRow))
        assert row["checkpoint"] == str(folder)
        check_measures(row, read(view, key).numpy())
    title, *lines = run(*words).stdout.splitlines()
    assert title.split()[:2] == ["matrix", "shape"]
    assert [line.split()[0] for line in lines] == [str(key) for key in keys]
    assert [float(line.split()[2]) for line in lines] == [pytest.approx(row["spectral_norm"], rel=1e-3) for row in rows]


def test_layers_of_a_checkpoint(folder: Path) -> None:
    def layers(text: str) -> set[int]:
        lines = run("spectrum", "--checkpoint", folder, "--layers", text, "--json").stdout.splitlines()
        return {MatrixKey.parse(json.loads(line)["matrix"]).layer for line in lines}

    assert layers("0-1") == layers("1, 0") == {0, 1}
    assert layers("1") == {1}
    assert "layer 2 is out of range" in refused("spectrum", "--checkpoint", folder, "--layers", "0-2")
    assert "is not there" in refused("spectrum", "--checkpoint", "./nowhere")


@pytest.fixture
def words_file(tmp_path: Path) -> Path:
    path = tmp_path / "words.jsonl"
    rows = [{"prompt": one.prompt, "answer": one.answer} for one in tiny.task().train]
    lines = [{**row, "split": split} for row, split in zip(rows, ["train"] * 4 + ["validation", "test"], strict=True)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_a_read_out_comes_with_the_exact_effect(model: Model, folder: Path, words_file: Path, mode: str) -> None:
    words = ("readout", "--model", folder, "--task", words_file, "--matrix", "L1.K.H1", "--mode", mode)
    found = report(*words, "--index", 2, "--index", 0, "--tokens", 3)
    assert set(found) == set(keys_of(ReadoutResult))
    view, key, svds = model.view(), MatrixKey.parse("L1.K.H1"), SvdCache(None)
    task = load_task(str(words_file))
    cut = batches(view, task, task.train)
    effects = exact_effects(view, cut, svds, [(key, 0), (key, 2)], mode=mode).values  # type: ignore[arg-type]
    told = readouts(view, key, svds.get(view, key), [0, 2], 3)
    for value, index, one in zip(found["values"], (0, 2), told, strict=True):
        assert value["index"] == index
        assert value["exact"]["value"] == pytest.approx(effects[key, index].value, abs=1e-6)
        assert value["exact"]["n"] == len(task.train) > 1
        assert math.isfinite(value["exact"]["stderr"])
        (end,) = value["ends"]
        assert (end["vector"], end["kind"], end["side"]) == ("u", "K", "reads")
        assert [token["text"] for token in end["plus"]] == [token.text for token in one.plus]
        assert [token["id"] for token in end["minus"]] == [token.id for token in one.minus]
    text = run(*words, "--tokens", 3).stdout
    assert text.count("removed alone it changes the loss by") == 4  # values 0 to 3
    assert repr(told[0].plus[0].text) in text


def test_a_product_has_read_outs_and_no_effect(folder: Path, words_file: Path) -> None:
    words = ("readout", "--model", folder, "--task", words_file, "--matrix", "L0.OV.H1", "--index", 0)
    (value,) = report(*words)["values"]
    assert value["exact"] is None
    assert [(end["vector"], end["kind"], end["side"]) for end in value["ends"]] == [
        ("u", "V", "reads"),
        ("v", "O", "writes"),
    ]
    assert "a product cannot be removed" in run(*words).stdout
    assert "has singular values 0 to" in refused(*words[:-1], 99)


@pytest.mark.slow
def test_masks_and_scores_stay_in_their_basis(folder: Path, words_file: Path, tmp_path: Path) -> None:
    common = ("--model", folder, "--task", words_file)
    path = tmp_path / "mask.json"
    options = ("--kinds", "K", "--count", 2, "--mode", "zero", "--out", path, "--basis", "folded")
    made = report("prune", *common, *options)
    assert made["basis"] == load_mask(path).model.basis == "folded"
    assert "--basis folded" in made["eval_command"]
    measured = report("eval", *common, "--mask", path, "--basis", "folded")
    assert (measured["basis"], measured["removed"]) == ("folded", 2)
    raw = report("eval", *common)
    assert measured["baseline"]["loss"] == pytest.approx(raw["loss"], abs=1e-4)  # the same outputs
    assert "their singular values differ; load the model in the mask's basis" in refused(
        "eval", *common, "--mask", path
    )
    W = read(load(str(folder), basis="folded").view(), MatrixKey.parse("L0.K")).numpy()
    (entry,) = report("spectra", "--model", folder, "--matrix", "L0.K", "--basis", "folded")["spectra"]
    assert entry["singular_values"] == pytest.approx(np.linalg.svd(W, compute_uv=False), rel=1e-5)
    assert report("score", *common, "--kinds", "K", "--basis", "folded")["basis"] == "folded"
    assert report("matrices", "--model", folder, "--basis", "folded")["basis"] == "folded"
