"""The cost model against sums by hand, and a driver that keeps 512 workers busy with cells that take as long."""

from __future__ import annotations

import pytest

from explorer.attribution.effect_costs import CELL_FLOP, cell_flop, run_flop, value_flop
from explorer.experiments.cluster.dispatch import dispatch
from scripts.docs.costs import EXAMPLES, GPU_FLOP, SHAPES, WORDS, table, time
from tests.crew import SleepingCrew

SEVEN, SEVENTY = SHAPES


def test_shapes_are_those_of_the_models() -> None:
    """The published numbers of parameters, without the embedding, the unembedding and the norms."""
    assert SEVEN.weights == 6_738_415_616 - 2 * 32_000 * 4096 - 65 * 4096
    assert SEVENTY.weights == 68_976_648_192 - 2 * 32_000 * 8192 - 161 * 8192
    assert SEVEN.values == 4 * 4096 + 3 * 4096
    assert SEVENTY.values == 2 * 8192 + 2 * 1024 + 3 * 8192


def test_all_effects_take_a_pass_of_the_suffix_each() -> None:
    tokens = EXAMPLES * WORDS
    slow = sum(2 * SEVEN.weights * tokens * (32 - layer) / 32 * SEVEN.values for layer in range(32))
    assert value_flop(SEVEN.weights, tokens, 0.5) == SEVEN.weights * tokens
    assert slow < SEVEN.flop < 1.05 * slow  # what runs take to begin is small on a large model
    assert sum(SEVEN.cells()) * GPU_FLOP == pytest.approx(SEVEN.flop, rel=1e-6)


def test_cells_take_seconds_on_a_gpu_and_less_on_a_core() -> None:
    seconds = list(SEVEN.cells())
    assert all(3 < one < 6 for one in seconds[:-1])
    assert cell_flop("cuda") > cell_flop("cpu") == cell_flop("mps") == CELL_FLOP["cpu"]
    assert run_flop("cpu", 1e9) > 1e9


def test_the_table_has_a_row_for_each_number_of_gpus() -> None:
    rows = [line.split(" | ") for line in table().splitlines()[2:]]
    assert [row[3] for row in rows] == ["8", "64", "512"] * 2
    assert [row[4] for row in rows] == ["8", "64", "512", "2", "16", "128"]
    assert (time(59), time(90), time(7200), time(86400 * 1.5)) == ("59 s", "1.5 min", "2.0 h", "1.5 d")


def test_512_simulated_gpus_are_busy_with_all_effects_of_a_7b_model() -> None:
    seconds = list(SEVEN.cells())
    crew = SleepingCrew(512, lambda cell: seconds[cell], delay=0.2)
    assert len(list(dispatch(crew, range(len(seconds))))) == len(seconds)
    assert sum(crew.busy) / (512 * crew.now) >= 0.95
