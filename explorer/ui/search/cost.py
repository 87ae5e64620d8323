"""What a search takes, told before it starts: measurements, examples, controls."""

from __future__ import annotations

from explorer.search.anchor import HELD
from explorer.search.controls import CONTROLS, DRAWS, RANDOM
from explorer.search.ensemble import EnsembleSettings
from explorer.search.laser import KEPT
from explorer.search.learned import EVERY, LearnedSettings
from explorer.search.paper import counts
from explorer.search.request import SearchRequest
from explorer.ui.session import Bench


def cost(bench: Bench, asked: SearchRequest, matrices: int, size: int) -> str:
    """A few sentences on a search among `size` values of so many matrices."""
    train = len(bench.task.split("train", asked.limit))
    validation = len(bench.task.split("validation"))
    test = len(bench.task.split("test", asked.test_limit))
    text = "" if asked.growth is None else f", and {HELD} blocks of plain text"
    draws = 2 * asked.controls + 2 if asked.controls else 0
    masks = f", {draws:,} control masks" if draws else ""
    return (
        f"{matrices:,} matrices, {size:,} values. {_steps(asked, matrices, size)} A measurement runs {train:,} train "
        f"and {validation:,} validation examples{text}. At the end the mask{masks} and the unpruned model run {test:,} "
        "test examples, which no search sees."
    )


def _steps(asked: SearchRequest, matrices: int, size: int) -> str:
    grid = len(tuple(counts(min(asked.max_removed, size))))
    if asked.strategy == "paper":
        return f"One scoring, {grid + 1} measurements."
    if asked.strategy == "adaptive":
        return f"One scoring, up to {matrices * grid + 1:,} measurements on validation examples only."
    if asked.strategy == "verified":
        return "A scoring and a few measurements per round, until nothing helps any more."
    if asked.strategy == "stepwise":
        return "As verified; then a measurement for each value of the mask, again while some of them go back."
    if asked.strategy == "learned":
        steps = LearnedSettings().steps
        return f"Up to {steps} training steps of 3 passes over the train examples, {steps // EVERY + 1} measurements."
    if asked.strategy == "thorough":
        return (
            f"A few rounds of scorings and measurements, up to {LearnedSettings().steps} training steps, then a "
            "measurement for each value of the mask."
        )
    if asked.strategy == "laser":
        return f"Up to {matrices * len(KEPT) + 1:,} measurements on validation examples only."
    if asked.strategy in CONTROLS:
        return f"One scoring, up to {grid * (DRAWS if asked.strategy in RANDOM else 1) + 1} measurements."
    usual, given = EnsembleSettings(), asked.options
    tasks = given.other_tasks
    searches = 1 + len(tasks) if tasks else given.members or usual.resamples
    where = "with seeds of their own" if given.over == "seeds" else "on halves of the train examples"
    return (
        f"{searches} searches {'on a task each' if tasks else where} ({given.base or usual.base}), then up to "
        f"{searches} measurements."
    )
