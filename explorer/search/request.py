"""One search as it is asked for: by the command, the page, a recipe or Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.mask import Mode
from explorer.models import View
from explorer.search.anchor import HELD, anchor_blocks
from explorer.search.controls import OF_THE_MASK
from explorer.search.evidence.choice import NO_EVIDENCE, EvidenceChoice
from explorer.search.options import USUAL, Chosen, StrategyOptions
from explorer.search.outcome import Budget
from explorer.tasks import Cases, Task, load_task

USUAL_GROWTH = 0.1  # of the perplexity of plain text, where nothing else is asked


@dataclass(frozen=True)
class SearchRequest:
    """Everything that decides the result of a search and of what follows it, but for model and task.

    Attributes:
        strategy: a name of `explorer.search.SEARCHES`.
        kinds: of the matrices; None for all.
        layers: of the matrices; None for all.
        per_head: whether attention is split by head.
        mode: `freeze` or `zero`.
        scorer: a name of `explorer.attribution.SCORERS`.
        limit: train examples to score on; None for all.
        max_removed: largest number of removed values.
        seconds: time limit; None for none.
        seed: of the search and its controls.
        controls: draws of each random control.
        test_limit: test examples for the final figures; None for all.
        options: those that belong to the strategy.
        growth: largest growth of the perplexity of plain text, 0.1 for 10 %; None for no limit.
        control_names: which controls are drawn.
        compute: a name of `explorer.models.compute.COMPUTE`: in which type proposals are computed.
        evidence: what the mask is measured beside, beyond its controls.
    """

    strategy: str
    kinds: tuple[Kind, ...] | None
    layers: tuple[int, ...] | None
    per_head: bool
    mode: Mode
    scorer: str
    limit: int | None
    max_removed: int
    seconds: float | None
    seed: int
    controls: int
    test_limit: int | None
    options: StrategyOptions = USUAL
    growth: float | None = None
    control_names: tuple[str, ...] = OF_THE_MASK
    compute: str = "auto"
    evidence: EvidenceChoice = NO_EVIDENCE

    @property
    def budget(self) -> Budget:
        """What the search may use up."""
        return Budget(self.max_removed, self.seconds, self.growth)

    @property
    def title(self) -> str:
        """`verified on Q, K, layers 0, 2, at most 20 removed`, with the strategy's options behind its name."""
        what = "all kinds" if self.kinds is None else ", ".join(self.kinds)
        where = "" if self.layers is None else f", layers {', '.join(map(str, self.layers))}"
        how = "".join(
            f", {name.replace('_', ' ')}" + ("" if value is True else f" {value}")
            for name, value in self.options.given.items()
        )
        text = "" if self.growth is None else f", perplexity up by at most {100 * self.growth:g} %"
        return f"{self.strategy}{how} on {what}{where}, at most {self.max_removed:,} removed{text}"

    def chosen(self, task: Task) -> Chosen:
        """The strategy with its options; other tasks are asked as `task` is.

        Raises:
            SettingsError: no such strategy, an option of another one, or a value that cannot be used.
        """

        def other(name: str) -> Task:
            cases = Cases(task.cases.splits)
            return load_task(name, task.seed, shots=task.shots, framing=task.framing, cases=cases)

        return self.options.choose(self.strategy, other)


def growth_limit(asked: str | float | None, view: View) -> float | None:
    """The limit from `0.05`, or from `auto`, which is USUAL_GROWTH where the model reads the text; None for `none`.

    Raises:
        SettingsError: it is none of these.
    """
    if asked == "auto":
        return USUAL_GROWTH if len(anchor_blocks(view)) > HELD else None
    if asked in (None, "none"):
        return None
    try:
        found = float(asked)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise SettingsError(f"--max-growth {str(asked)[:40]!r}: give a share such as 0.05 for 5 %, or none.")
    return found
