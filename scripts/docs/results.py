"""Tables of results, from the cells in assets/results."""

from __future__ import annotations

from explorer.actions import Reproduce
from explorer.actions.reproduce import ReproduceResult
from explorer.cli.console import accuracy_text
from explorer.cli.reproduce_tables import markdown
from explorer.core.config import ASSETS
from explorer.core.texts import percent
from explorer.experiments.reproduce.cells import SuiteCell
from explorer.experiments.reproduce.columns import suite_rows
from explorer.measure.figures import Figures
from explorer.search.controls import DEFAULT

RESULTS = ASSETS / "results"
FOUND_TASK = "int-mult-12"


def suite(name: str) -> str:
    """The table of a suite, as `eigenprune reproduce NAME --show --markdown` prints it."""
    return markdown(suite_rows(_stored(name).entries))


def found() -> str:
    """What two searches find in SmolLM2-135M-Instruct on INT-MULT below 12, beside what stands for the ability."""
    cells = {
        one.recipe.strategy.name: one.cell
        for one in _stored("smollm2").entries
        if one.recipe.task.name == FOUND_TASK and one.cell is not None
    }
    learned, verified = cells["learned"], cells["verified"]
    controls = learned.controls
    lines = [
        ("", "removed", "test accuracy", "loss, nats"),
        ("---",) * 4,
        ("unpruned", "0", _accuracy(learned.before), _loss(learned.before)),
        ("three shots, unpruned", "0", _accuracy(learned.reference), ""),
        ("`learned`", _removed(learned), f"**{_accuracy(learned.after)}**", _loss(learned.after)),
        ("`verified`, 15 minutes", _removed(verified), _accuracy(verified.after), _loss(verified.after)),
        (f"`{DEFAULT}` of `learned`: best of {controls[DEFAULT].draws}", _removed(learned), _best(learned), ""),
        ("`smallest`, as many", _removed(learned), percent(controls["smallest"].median), ""),
        ("`largest`, as many", _removed(learned), percent(controls["largest"].median), ""),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _stored(name: str) -> ReproduceResult:
    result = Reproduce(suite=name, show=True, out=RESULTS / name).run()
    assert isinstance(result, ReproduceResult)
    return result


def _removed(cell: SuiteCell) -> str:
    return f"{cell.removed:,}"


def _best(cell: SuiteCell) -> str:
    return percent(max(cell.controls[DEFAULT].accuracy))


def _accuracy(figures: Figures | None) -> str:
    assert figures is not None
    return accuracy_text(figures.accuracy, figures.accuracy_interval, figures.n)


def _loss(figures: Figures) -> str:
    return f"{figures.loss:.2f}"
