"""`effects`: what removing single values really does, measured one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from explorer.actions.choices import (
    Limit,
    Mode,
    ModelChoice,
    OfTask,
    TaskChoice,
    asked,
    own_mask,
    read_mask,
    removal_mode,
)
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey

SPLIT = "train"


@dataclass(frozen=True)
class EffectsResult(OfTask):
    """The measured change of the mean loss by flipping each value alone, nats per example; negative = it helps.

    Attributes:
        loss: the mean on the `n` examples without the changes; with `--mask` the masked model's.
        values: matrix, index, exact, stderr, and removed (whether the mask removes it).
    """

    split: str
    n: int
    seed: int
    mode: str
    mask_digest: str | None
    loss: float
    values: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class MeasureEffects(Request):
    """Measure the exact effect of single values: the change of the train loss if each is removed alone.

    Each value costs at most one forward pass over the examples. Measured effects are kept in the cache folder.

    Example: `eigenprune effects --model bundled --task int-mult --value L0.Q.H3:0,1 --value L0.K.H3:0`
    """

    command: ClassVar[str] = "effects"

    model: ModelChoice
    task: TaskChoice
    value: Annotated[tuple[str, ...], Arg("Values of a matrix, such as L0.Q.H3:0 or L3.OUT:0,5,7; repeatable.")]
    mask: Annotated[Path | None, Arg("Measure from this mask on: a value that it removes is restored.")] = None
    mode: Mode = "freeze"
    limit: Limit = None

    def run(self, tools: Tools = ALONE) -> EffectsResult:
        """Measure.

        Raises:
            ExplorerError: a model, task, mask or value that cannot be had.
        """
        values = [one for text in self.value for one in _values(text)]
        mode, task = removal_mode(self.mode), self.task.open(SPLIT, self.limit, tools)
        from explorer.attribution.effect_store import default_effects
        from explorer.attribution.exact import exact_effects
        from explorer.measure.batches import batches
        from explorer.spectra.cache import default_cache

        mask = None if self.mask is None else read_mask(self.mask)
        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        mask = None if mask is None else own_mask(view, mask, tools)
        with tools.working("Measuring") as progress:
            cut = batches(view, task, task.split(SPLIT, self.limit))
            found = exact_effects(
                view, cut, default_cache(tools.notice), values=values, mode=mode, mask=mask,
                store=default_effects(tools.notice), progress=progress,
            )  # fmt: skip
        return EffectsResult(
            **asked(view, task),
            split=SPLIT,
            n=found.n,
            seed=task.seed,
            mode=mode,
            mask_digest=None if mask is None else mask.digest,
            loss=found.loss,
            values=[
                {
                    "matrix": str(key),
                    "index": index,
                    "exact": one.value,
                    "stderr": one.stderr,
                    "removed": mask is not None and index in mask.indices(key),
                }
                for (key, index), one in found.values.items()
            ],
        )


def _values(text: str) -> list[tuple[MatrixKey, int]]:
    """Values from `L0.Q.H3:0,5`."""
    matrix, _, indices = text.partition(":")
    found = [piece.strip() for piece in indices.split(",")]
    if not all(piece.isascii() and piece.isdecimal() for piece in found):
        raise SettingsError(f"--value {text[:40]!r} cannot be read: give a matrix and indices such as L0.Q.H3:0,5.")
    return [(MatrixKey.parse(matrix), int(piece)) for piece in found]
