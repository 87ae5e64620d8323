"""Scores as rows, one per singular value: filters, samples, and agreement with exact effects.

Pure: no screen. A row's `predicted` is what the ranking goes by: the score, or the score at the mask if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from explorer.attribution import Scores
from explorer.attribution.exact import Value
from explorer.core.keys import Kind, MatrixKey
from explorer.experiments.study import ALL, Trust
from explorer.experiments.study.trust import trust
from explorer.masks.mask import Mask
from explorer.measure.metrics import Mean

ROWS = 20_000  # more than that a browser does not draw well
DOUBT = "?"
Sign = Literal["all", "harmful", "needed"]
Doubt = Literal["all", "reliable", "doubtful"]
SIGNS: tuple[Sign, ...] = get_args(Sign)
DOUBTS: tuple[Doubt, ...] = get_args(Doubt)


@dataclass(frozen=True)
class Filters:
    """Which rows to show; an empty choice means all.

    Attributes:
        kinds, layers, heads: matrices; with heads chosen, matrices without heads are out.
        sign: harmful (predicted below 0) or needed (above 0).
        doubt: whether the sign of the score is in doubt.
        least: smallest absolute prediction, nats per example.
    """

    kinds: tuple[Kind, ...] = ()
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    sign: Sign = "all"
    doubt: Doubt = "all"
    least: float = 0.0

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows that pass, numbered anew."""
        keep = np.ones(len(rows), dtype=bool)
        for name, chosen in (("kind", self.kinds), ("layer", self.layers), ("head", self.heads)):
            if chosen:
                keep &= rows[name].isin([str(one) if name == "kind" else one for one in chosen]).to_numpy(dtype=bool)
        predicted = rows["predicted"].to_numpy()
        if self.sign != "all":
            keep &= predicted < 0 if self.sign == "harmful" else predicted > 0
        if self.doubt != "all":
            keep &= (rows["doubt"].to_numpy() == DOUBT) == (self.doubt == "doubtful")
        passed: pd.DataFrame = rows[keep & (np.abs(predicted) >= self.least)]
        return passed.reset_index(drop=True)


def rows(scores: Scores, mask: Mask, measured: Mapping[Value, Mean], at_mask: Scores | None = None) -> pd.DataFrame:
    """One row per scored value, the most harmful prediction first; ties in canonical order.

    Args:
        scores: of the unpruned model.
        mask: what is removed now.
        measured: exact effects, of the same sort as the prediction.
        at_mask: scores of the same matrices at the mask; they become the prediction.

    Returns:
        Columns matrix, kind, layer, head (missing for MLP and stacked matrices), index, sigma, score, stderr (of the
        prediction), at_mask (NaN without), doubt ("?" or ""), removed, exact, exact_stderr (NaN where not measured),
        and predicted. All scores, effects and errors are in nats per example.
    """
    effects: dict[MatrixKey, list[tuple[int, Mean]]] = {}
    for (key, index), mean in measured.items():
        effects.setdefault(key, []).append((index, mean))
    parts = [
        _matrix_rows(key, scores, mask, effects=effects.get(key, []), at_mask=at_mask)
        for key in sorted(scores.matrices)
    ]
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    table["head"] = table["head"].astype("Int64")
    return table.sort_values("predicted", kind="stable", ignore_index=True)


def _matrix_rows(
    key: MatrixKey, scores: Scores, mask: Mask, effects: list[tuple[int, Mean]], at_mask: Scores | None
) -> dict[str, NDArray[Any]]:
    """The rows of one matrix by column: one data frame of all costs a fifth of a data frame each."""
    matrix = scores.matrices[key]
    now = matrix if at_mask is None else at_mask.matrices[key]
    r = len(matrix.s)
    nothing = np.full(r, np.nan)
    exact, exact_stderr, removed, doubtful = nothing.copy(), nothing.copy(), np.zeros(r, bool), np.zeros(r, bool)
    for index, mean in effects:
        exact[index], exact_stderr[index] = mean.value, mean.stderr
    removed[list(mask.indices(key))] = True
    doubtful[list(now.uncertain_indices)] = True
    predicted = now.score.double().numpy()
    columns: dict[str, NDArray[Any]] = {
        "matrix": np.full(r, str(key), dtype=object),
        "kind": np.full(r, str(key.kind), dtype=object),
        "layer": np.full(r, key.layer),
        "head": np.full(r, np.nan if key.head is None else float(key.head)),
        "index": np.arange(r),
        "sigma": matrix.s.double().numpy(),
        "score": matrix.score.double().numpy(),
        "stderr": nothing if now.stderr is None else now.stderr.double().numpy(),
        "at_mask": nothing if at_mask is None else predicted,
        "doubt": np.where(doubtful, DOUBT, "").astype(object),
        "removed": removed,
        "exact": exact,
        "exact_stderr": exact_stderr,
        "predicted": predicted,
    }
    present = matrix.present.numpy()
    return columns if present.all() else {name: one[present] for name, one in columns.items()}


def called(table: pd.DataFrame, texts: Mapping[str, Mapping[int, str]]) -> list[str]:
    """What the value of each row is called, by matrix and index; empty where it is called nothing."""
    return [texts.get(name, {}).get(i, "") for name, i in zip(table["matrix"], table["index"], strict=True)]


def values(table: pd.DataFrame) -> tuple[Value, ...]:
    """(matrix, index) of each row."""
    keys = {name: MatrixKey.parse(name) for name in table["matrix"].unique()}
    return tuple((keys[name], int(index)) for name, index in zip(table["matrix"], table["index"], strict=True))


def spread(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows from the first to the last at even distances, or all if there are no more."""
    places = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    return table.iloc[places]


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with an exact effect, and how far the prediction is from it (`error`, nats per example, at least 0)."""
    found = table[table["exact"].notna()].copy()
    found["error"] = (found["predicted"] - found["exact"]).abs()
    return found


def offenders(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The measured rows whose prediction is furthest from the exact effect, furthest first."""
    worst = measured(table).sort_values("error", ascending=False, kind="stable")
    return worst.head(count).reset_index(drop=True)


def agreement(table: pd.DataFrame) -> dict[str, Trust]:
    """Agreement of prediction and exact effect over the measured rows: per kind, and over all where kinds differ."""
    found = measured(table)
    groups = {str(kind): found[found["kind"] == kind] for kind in Kind if (found["kind"] == kind).any()}
    if len(groups) > 1:
        groups[ALL] = found
    return {name: trust(part["predicted"].tolist(), part["exact"].tolist()) for name, part in groups.items()}
