"""`effects`: what removing single values really does, measured one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    Kinds,
    Limit,
    Mode,
    ModelChoice,
    OfTask,
    Stacked,
    TaskChoice,
    asked,
    kinds_or_all,
    own_mask,
    read_mask,
    refuse_unwritable,
    removal_mode,
)
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.texts import duration_text

if TYPE_CHECKING:
    from explorer.attribution.pace import Estimate
    from explorer.models import View
    from explorer.spectra.cache import SvdCache

SPLIT = "train"


@dataclass(frozen=True)
class EffectsResult(OfTask):
    """The measured change of the mean loss by flipping each value alone, nats per example; negative = it helps.

    Attributes:
        loss: the mean on the `n` examples without the changes; with `--mask` the masked model's.
        asked: how many values were asked for; `values` holds fewer where `--time` was up before.
        values: matrix, index, exact, stderr, and removed (whether the mask removes it).
    """

    split: str
    n: int
    seed: int
    mode: str
    mask_digest: str | None
    loss: float
    asked: int
    values: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class MeasureEffects(Request):
    """Measure the exact effect of single values, or of all: the change of the train loss if each is removed alone.

    A value costs at most one forward pass over the examples. Measured effects are kept in the cache folder: what was
    stopped or killed goes on. `--all` measures a few first, and says what the rest will take.

    Example: `eigenprune effects --model bundled --task int-mult --all --kinds Q,K --limit 64 --time 60`
    """

    command: ClassVar[str] = "effects"

    model: ModelChoice
    task: TaskChoice
    value: Annotated[tuple[str, ...], Arg("Values of a matrix, such as L0.Q.H3:0 or L3.OUT:0,5,7; repeatable.")] = ()
    every: Annotated[bool, Arg("Measure all values of the kinds, instead of naming some.", name="all")] = False
    kinds: Kinds = "all"
    sample: Annotated[int | None, Arg("With --all: only this many of them, drawn by the seed.", least=1)] = None
    time: Annotated[
        float | None, Arg("With --all: stop after this many seconds; they come in random order.", least=1)
    ] = None
    stacked: Stacked = False
    mask: Annotated[Path | None, Arg("Measure from this mask on: a value that it removes is restored.")] = None
    mode: Mode = "freeze"
    limit: Limit = None
    out: Annotated[Path | None, Arg("Write every measured value to this CSV file as well.")] = None

    def run(self, tools: Tools = ALONE) -> EffectsResult:
        """Measure.

        Raises:
            ExplorerError: a model, task, mask or value that cannot be had, or a file that cannot be written.
        """
        named = [one for text in self.value for one in values_of(text)]
        self._check()
        mode, task = removal_mode(self.mode), self.task.open(SPLIT, self.limit, tools)
        from explorer.attribution.effect_store import default_effects
        from explorer.attribution.exact import exact_effects
        from explorer.attribution.pace import Pace
        from explorer.measure.batches import batches
        from explorer.spectra.cache import default_cache

        mask = None if self.mask is None else read_mask(self.mask)
        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        mask = None if mask is None else own_mask(view, mask, tools)
        svds = default_cache(tools.notice)
        values = self._drawn(view, svds, tools, seed=task.seed) if self.every else named
        pace = Pace(self.time, lambda estimate: tools.notice(_estimated(estimate, self.time)), task.seed)
        with tools.working("Measuring") as progress:
            cut = batches(view, task, task.split(SPLIT, self.limit))
            found = exact_effects(
                view, cut, svds, values=values, mode=mode, mask=mask, store=default_effects(tools.notice),
                progress=progress, pace=pace if self.every else None,
            )  # fmt: skip
        result = EffectsResult(
            **asked(view, task),
            split=SPLIT,
            n=found.n,
            seed=task.seed,
            mode=mode,
            mask_digest=None if mask is None else mask.digest,
            loss=found.loss,
            asked=len(dict.fromkeys(values)),
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
        if self.out is not None:
            _write_csv(result, self.out)
        return result

    def _check(self) -> None:
        """Refuse options that do not go together."""
        kinds_or_all(self.kinds)
        if self.every == bool(self.value):
            raise SettingsError("effects needs either --value, such as --value L0.Q.H3:0, or --all: give one of them.")
        narrowed = self.sample is not None or self.time is not None or self.stacked or self.kinds != "all"
        if narrowed and not self.every:
            raise SettingsError("--kinds, --sample, --time and --stacked choose among all values: add --all.")
        if self.time is not None and not (math.isfinite(self.time) and self.time >= 1):
            raise SettingsError(f"--time is {self.time}: give the seconds that measuring may take, 1 or more.")
        if self.sample is not None and self.sample < 1:
            raise SettingsError(f"--sample is {self.sample}: give the number of values to measure, 1 or more.")
        if self.out is not None:
            refuse_unwritable(self.out)

    def _drawn(self, view: View, svds: SvdCache, tools: Tools, *, seed: int) -> list[tuple[MatrixKey, int]]:
        """All values of the kinds, or a sample of them."""
        from explorer.models.matrices import matrices, shape

        keys = matrices(view, kinds_or_all(self.kinds), per_head=not self.stacked)
        if missing := svds.missing(view, keys):  # together they take a few files, one by one as many as matrices
            with tools.working("Decomposing") as progress:
                svds.get_many(view, missing, progress)
        if view.model.basis == "delta":  # most values are null there, and removing these does nothing
            present = {key: (svds.get(view, key).s != 0).nonzero().flatten().tolist() for key in keys}
        else:
            present = {key: list(range(min(shape(view, key)))) for key in keys}
        values = [(key, index) for key in keys for index in present[key]]
        if self.sample is None or self.sample >= len(values):
            return values
        return sorted(random.Random(seed).sample(values, self.sample))


def _estimated(estimate: Estimate, seconds: float | None) -> str:
    """What measuring takes, as a sentence."""
    known = f", {estimate.known:,} more are known" if estimate.known else ""
    found = (
        f"{estimate.values:,} values to measure{known}: about {duration_text(estimate.seconds)} here, at "
        f"{estimate.flops / 1e9:,.3g} GFLOP/s as the first {estimate.probed:,} took"
    )
    if seconds is None or seconds >= estimate.seconds:
        return f"{found}."
    return f"{found}; {duration_text(seconds)} is enough for about {estimate.values * seconds / estimate.seconds:,.0f}."


def _write_csv(result: EffectsResult, path: Path) -> None:
    import pandas as pd

    columns = ["matrix", "index", "exact", "stderr", "removed"]
    pd.DataFrame(list(result.values), columns=columns).to_csv(path, index=False)


def values_of(text: str) -> list[tuple[MatrixKey, int]]:
    """Values from `L0.Q.H3:0,5`; raises SettingsError for another text."""
    matrix, _, indices = text.partition(":")
    found = [piece.strip() for piece in indices.split(",")]
    if not all(piece.isascii() and piece.isdecimal() for piece in found):
        raise SettingsError(f"--value {text[:40]!r} cannot be read: give a matrix and indices such as L0.Q.H3:0,5.")
    return [(MatrixKey.parse(matrix), int(piece)) for piece in found]
