"""Matrices over training: numpy on plain transformers' weights, checkpoint by checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.actions import ModelChoice, ShowSpectra
from explorer.core.errors import MatrixError, ModelError, SettingsError
from explorer.core.keys import CircuitKey, MatrixKey, parse_key
from explorer.models import load
from explorer.models.matrices import read_base
from explorer.plots import training as training_plots
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import weights_of
from explorer.spectra.training import courses
from tests import tiny
from tests.commands import refused, report
from tests.unit.models.test_delta import shorter

KEYS = tuple(map(parse_key, ("L0.K.H1", "L1.OUT", "L1.OV.H2")))


@pytest.fixture(scope="module")
def steps(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Checkpoints that move towards the last one, which is the tiny model itself."""
    root, made = tmp_path_factory.mktemp("steps"), []
    for number, share in enumerate((1.0, 0.3, 0.0)):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        torch.manual_seed(8)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(share * torch.randn_like(weight))
        model.save_pretrained(root / f"step{number}")
        tiny.tokenizer().save_pretrained(root / f"step{number}")
        made.append(root / f"step{number}")
    return made


def test_spectra_and_overlaps_are_those_of_numpy(steps: list[Path], svds: SvdCache) -> None:
    *earlier, last = [load(str(one), dtype="float32").view() for one in steps]
    k = 3
    found = courses(last, [str(one) for one in steps[:-1]], KEYS, svds=svds, k=k)
    for one in found:
        parts = []
        for view in (*earlier, last):
            if isinstance(one.key, MatrixKey):
                W = read_base(view, one.key).double().numpy()
            else:
                assert isinstance(one.key, CircuitKey)
                A, B = weights_of(view, one.key)
                W = (A @ B).numpy()
            parts.append(np.linalg.svd(W, full_matrices=False))
        for stage, (u, s, vh), with_last in zip(one.stages, parts, one.with_last, strict=True):
            np.testing.assert_allclose(stage.s, s[: len(stage.s)], rtol=1e-5, atol=1e-6)
            expected = np.square(u[:, :k].T @ parts[-1][0][:, :k]).sum() / k
            assert with_last.left == pytest.approx(expected, abs=1e-5)
            directions = (u * parts[-1][0]).sum(0) * (vh * parts[-1][2]).sum(1)
            np.testing.assert_allclose(with_last.directions, directions[:k], atol=1e-4)
        assert one.with_previous[0] is None
        assert one.with_last[-1].left == pytest.approx(1.0)
        second = one.with_previous[1]
        assert second is not None
        assert second.right == pytest.approx(np.square(parts[1][2][:k] @ parts[0][2][:k].T).sum() / k, abs=1e-5)
        assert one.chance == (k / one.shape[0], k / one.shape[1])


def test_a_difference_grows_over_training(steps: list[Path]) -> None:
    first, second, last = map(str, steps)
    view = load(last, basis="delta", against=first, dtype="float32").view()
    (found,) = courses(view, [first, second], KEYS[1:2], svds=SvdCache(None), k=2)
    start, middle, end = found.stages
    W0, W1 = (
        read_base(load(one, dtype="float32").view(), MatrixKey.parse("L1.OUT")).double() for one in (first, second)
    )
    assert not bool(start.s.any())
    np.testing.assert_allclose(middle.s, np.linalg.svd((W1 - W0).numpy(), compute_uv=False), rtol=1e-5)
    assert float(end.s[0]) > float(middle.s[0])


def test_the_command_shows_every_checkpoint(steps: list[Path]) -> None:
    first, second, last = map(str, steps)
    asked = ShowSpectra(model=ModelChoice(last), matrix=("L0.K.H1",), over=(f"{first}, {second}",), overlap=2)
    assert asked.checkpoints == (first, second)
    found = report("spectra", "--model", last, "--matrix", "L0.K.H1", "--over", f"{first},{second}", "--overlap", 2)
    assert found == asked.run().as_dict()
    (course,) = found["over"]
    assert [stage["checkpoint"] for stage in course["stages"]] == [first, second, last]
    assert course["stages"][-1]["singular_values"] == found["spectra"][0]["singular_values"]


def test_the_figure_has_a_line_per_value_and_comparison(steps: list[Path], svds: SvdCache) -> None:
    view = load(str(steps[-1]), dtype="float32").view()
    (found,) = courses(view, [str(one) for one in steps[:-1]], KEYS[:1], svds=svds, k=2)
    figure = training_plots.course(found)
    lines = {line.name: list(line.y) for line in figure.data}
    assert lines["value 0"] == [pytest.approx(float(one.s[0])) for one in found.stages]
    assert lines["inputs, u: with the one before"][0] is None
    assert lines["outputs, v: with the last"][-1] == pytest.approx(1.0)
    assert set(lines["inputs, u: chance"]) == {2 / found.shape[0]}


def test_what_is_no_course_of_training_is_a_sentence(
    steps: list[Path], folder: Path, arch: str, svds: SvdCache, tmp_path: Path
) -> None:
    view = load(str(steps[-1]), dtype="float32").view()
    other = tiny.save("llama" if arch == "gpt2" else "gpt2", tmp_path / "other")
    with pytest.raises(ModelError, match="give checkpoints of one run"):
        courses(view, [str(other)], KEYS, svds=svds, k=2)
    with pytest.raises(MatrixError, match=r"layer 1 is out of range"):
        courses(view, [str(shorter(folder, tmp_path / "short"))], KEYS, svds=svds, k=2)
    with pytest.raises(ModelError, match="is not there"):
        courses(view, ["./gone"], KEYS, svds=svds, k=2)
    with pytest.raises(SettingsError, match="give one or more"):
        courses(view, [], KEYS, svds=svds, k=2)
    said = refused("spectra", "--model", steps[-1], "--basis", "folded", "--matrix", "L0.K.H1", "--over", str(steps[0]))
    assert "take the raw basis, or delta" in said
