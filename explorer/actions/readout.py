"""`readout`: which tokens singular vectors read or write, beside what removing the values really does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import Limit, Mode, ModelChoice, OfTask, TaskChoice, asked, removal_mode
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.keys import CircuitKey, parse_key

if TYPE_CHECKING:
    from explorer.core.keys import MatrixKey
    from explorer.measure.readout import Readout, Token
    from explorer.models import View
    from explorer.spectra.cache import SvdCache
    from explorer.tasks import Task

SPLIT = "train"


@dataclass(frozen=True)
class ReadoutResult(OfTask):
    """Tokens of singular vectors; `task` to `mode` say what the exact effects were measured on.

    Attributes:
        values: index, sigma, ends and exact of each. `ends` has one entry per residual-stream vector (`u` or `v`) with
            the kind and side of its matrix, and at either end (plus, minus) tokens by id, text and value. `exact` is
            the measured change of the mean loss if the value alone is removed, with stderr and n; null for products,
            which no mask holds.
    """

    matrix: str
    split: str
    mode: str
    values: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ReadOut(Request):
    """Show the tokens that singular vectors read or write most, and the exact effect of removing each value.

    Reads: embeddings through the layer's norm. Writes: logits behind the final norm. These are labels, not effects; the
    effect is measured on train examples. Values 0 to 3 if no --index is given. A head's product cannot be removed, so
    it has no effect.

    Example: `eigenprune readout --model bundled --matrix L0.K.H1 --task int-mult --index 0`
    """

    command: ClassVar[str] = "readout"

    model: ModelChoice
    matrix: Annotated[str, Arg("Such as L0.K.H1, L0.OUT, or a head's product L0.QK.H1, L0.OV.H1.")]
    task: TaskChoice
    index: Annotated[tuple[int, ...], Arg("Singular value; repeatable.", least=0)] = ()
    tokens: Annotated[int, Arg("Tokens shown at either end.", least=1)] = 8
    mode: Mode = "freeze"
    limit: Limit = 64

    def run(self, tools: Tools = ALONE) -> ReadoutResult:
        """Read out, and measure.

        Raises:
            ExplorerError: a model, task, matrix or value that cannot be had.
        """
        key, mode = parse_key(self.matrix), removal_mode(self.mode)
        task = self.task.open(SPLIT, self.limit, tools)
        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        from explorer.measure.readout import readouts
        from explorer.spectra.cache import default_cache
        from explorer.spectra.circuits import check_any
        from explorer.spectra.model_diff import decomposed

        check_any(view, key)
        svds = default_cache(tools.notice)
        found = decomposed(view, svds, key)
        indices = sorted(set(self.index)) or list(range(min(4, found.rank)))
        ends = readouts(view, key, found, indices=indices, k=self.tokens)
        effects = (
            {}
            if isinstance(key, CircuitKey)
            else self._effects(view, svds, task, key=key, indices=indices, tools=tools)
        )
        return ReadoutResult(
            **asked(view, task),
            matrix=str(key),
            split=SPLIT,
            mode=mode,
            values=[
                {
                    "index": i,
                    "sigma": float(found.s[i]),
                    "exact": effects.get(i),
                    "ends": [_end(one) for one in ends if one.index == i],
                }
                for i in indices
            ],
        )

    def _effects(
        self, view: View, svds: SvdCache, task: Task, key: MatrixKey, indices: Sequence[int], tools: Tools
    ) -> dict[int, Mapping[str, Any]]:
        from explorer.attribution.exact import exact_effects
        from explorer.measure.batches import batches

        with tools.working("Measuring") as progress:
            cut = batches(view, task, task.split(SPLIT, self.limit))
            found = exact_effects(
                view,
                cut,
                svds,
                values=[(key, index) for index in indices],
                mode=removal_mode(self.mode),
                progress=progress,
            )
        return {
            index: {"value": one.value, "stderr": one.stderr, "n": one.n} for (_, index), one in found.values.items()
        }


def _end(one: Readout) -> dict[str, Any]:
    def tokens(listed: Sequence[Token]) -> list[dict[str, Any]]:
        return [{"id": token.id, "text": token.text, "value": token.value} for token in listed]

    return {
        "vector": one.vector,
        "kind": one.kind,
        "side": one.side,
        "plus": tokens(one.plus),
        "minus": tokens(one.minus),
    }
