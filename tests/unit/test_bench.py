"""The arithmetic of the bench, and that its subjects are what they say; the figures themselves are for `make bench`."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.attribution import score
from explorer.core.keys import Kind, MatrixKey
from explorer.models import load
from explorer.models.matrices import kinds, matrices
from explorer.spectra.cache import SvdCache
from tests.bench.large import watched
from tests.bench.rows import _effect
from tests.bench.scaling import figure, slopes
from tests.bench.subjects import Subject, plain_pass
from tests.bench.timing import figures, line, paired, row, slope, verdict
from tests.bench.words import WORDS_IN_PROMPT, Size, save_random_llama, words_task


def test_figures_are_medians_and_ratios_are_taken_pair_by_pair() -> None:
    found = figures([(1.0, 2.0), (3.0, 1.0), (2.0, 2.0)], "s")
    assert found == {"ours_s": 2.0, "reference_s": 2.0, "ratio": 1.0, "ratio_range": [0.5, 3.0], "runs": 3}


def test_pairs_run_in_turn_after_a_warm_up() -> None:
    calls: list[str] = []
    paired(lambda: calls.append("ours"), lambda: calls.append("reference") or sum(range(20_000)), 2)
    assert calls == ["ours", "reference"] * 3


@pytest.mark.parametrize(("ratio", "target", "expected"), [(0.9, 1.0, "pass"), (1.1, 1.0, "miss"), (9.0, None, "")])
def test_verdicts(ratio: float, target: float | None, expected: str) -> None:
    assert verdict(row("what", "against", figures([(ratio, 1.0)], "s"), target)) == expected


def test_exponents_of_known_curves() -> None:
    x = [1.0, 2.0, 4.0, 8.0]
    exponent, error = slope(x, [5 * value**3 for value in x])
    assert exponent == pytest.approx(3.0)
    assert error == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(slope(x[:2], x[:2])[1])
    assert line(x, [2 + 3 * value for value in x]) == pytest.approx((3.0, 2.0))
    expected = np.polyfit(np.log(x), np.log([1.0, 5.0, 9.0, 30.0]), 1, cov="unscaled")
    assert slope(x, [1.0, 5.0, 9.0, 30.0])[0] == pytest.approx(expected[0][0])


def test_the_slow_loop_adds_up_to_the_score(tmp_path: Path) -> None:
    """The reference that the factor is taken against computes the same number as the scorer."""
    model = load(str(save_random_llama(Size(64, 2), tmp_path)), dtype="float32")
    view, task, key = model.view(), words_task(8), MatrixKey(1, Kind.GATE)
    svds = SvdCache(None)
    found = score(view, task, svds, [key], mode="freeze").matrices[key].score
    subject = Subject(str(tmp_path), 8, "cpu", tmp_path / "svd")
    (batch,) = subject.batches
    seen: dict[str, torch.Tensor] = {}
    plain = subject.plain
    module = plain.model.layers[1].mlp.gate_proj
    module.register_forward_hook(lambda _, given, __: seen.update(x=given[0].detach()))
    module.register_full_backward_hook(lambda _, __, gradient: seen.update(g=gradient[0].detach()))
    plain_pass(plain, batch, backward=True)
    d = svds.get(view, key)
    x, g = seen["x"], seen["g"]
    m = x.flatten(0, 1).mean(dim=0)
    slow = [float(_effect(x - m, d.u[:, i], d.s[i].float(), d.vh[i], g)) / len(batch) for i in range(d.rank)]
    np.testing.assert_allclose(found.numpy(), slow, rtol=1e-3, atol=1e-7)


def test_random_models_have_the_size_they_say(tmp_path: Path) -> None:
    view = load(str(save_random_llama(Size(256, 2), tmp_path)), dtype="float32").view()
    assert len(matrices(view, kinds(view), per_head=False)) == 2 * 7
    assert view.config.d_mlp == Size(256, 2).inner == 704
    assert (view.config.n_heads, view.config.n_key_value_heads) == (4, 1)
    task = words_task(4)
    assert all(len(example.prompt.split()) == WORDS_IN_PROMPT for example in task.train)


@pytest.mark.slow
def test_a_watched_program_says_what_memory_it_took(tmp_path: Path) -> None:
    file = tmp_path / "zeros"
    file.write_bytes(bytes(300_000_000))
    program = (
        "import mmap, sys, time\n"
        "held = b'1' * 200_000_000\n"
        "file = open(sys.argv[1], 'rb')\n"
        "mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)\n"
        "sum(mapped[::4096])\n"
        "time.sleep(0.5)\n"
    )
    used = watched([sys.executable, "-c", program, str(file)], {})
    assert 0.2 < used.anonymous < 0.25
    assert 0.5 < used.resident < 0.6
    assert used.seconds > 0.5
    with pytest.raises(subprocess.CalledProcessError):
        watched([sys.executable, "-c", "raise SystemExit(3)"], {})


def test_the_plot_needs_no_network_and_shows_measured_beside_predicted() -> None:
    narrow = [{"narrow": n, "ours_s": n**3, "reference_s": n**3} for n in (2.0, 4.0, 8.0)]
    sizes = [
        {"width": w, "weights": w**2, "examples": e, "tokens": 16 * e, "ours_s": w**2 * e, "reference_s": w**2 * e}
        | {"ours_mb": w**2, "reference_mb": w**2}
        for w in (2.0, 4.0)
        for e in (8.0, 16.0, 32.0)
    ]
    found = slopes(sizes, narrow)
    assert all(one["measured"] == pytest.approx(one["predicted"]) for one in found)
    assert {"scores by tokens, width 2.0", "scores by weights", "SVD by narrow side"} <= {one["what"] for one in found}
    page = figure(sizes, narrow, "a device").to_html(include_plotlyjs=True)
    assert "slope 3" in page
    assert '<script src="http' not in page
