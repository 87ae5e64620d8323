"""Rows, filters, agreement, and the cells of the map, against slow loops over the scores."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from explorer.attribution import MatrixScores, Scores
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.mask import Mask, ModelIdentity, Removed
from explorer.measure.metrics import Mean
from explorer.ui.bench import score_map
from explorer.ui.bench.score_map import cells, clicked
from explorer.ui.scores.value_rows import Filters, agreement, measured, offenders, rows, spread, values

KEYS = [MatrixKey.parse(text) for text in ("L1.OUT", "L0.Q.H1", "L0.Q.H0", "L0.K.H0", "L1.Q.H0", "L1.Q.H1")]
EMPTY = Mask(model=ModelIdentity(source="m", digest="sha256:" + "0" * 64))
R = 5


def scored(seed: int, *, stderr: bool = False) -> Scores:
    draw = torch.Generator().manual_seed(seed)

    def one() -> MatrixScores:
        score, s = torch.randn(R, generator=draw), torch.rand(R, generator=draw).sort(descending=True).values
        error = torch.rand(R, generator=draw) if stderr else None
        return MatrixScores(s, score, torch.zeros(R), error, score.abs() > 0.8)

    return Scores("gradient", "freeze", "t", "train", 7, 0, 1.0, {key: one() for key in KEYS})


def mask_of(*places: tuple[MatrixKey, int]) -> Mask:
    return EMPTY.with_removed(Removed(matrix=str(key), index=index, sigma=1.0) for key, index in places)


GONE = ((KEYS[0], 3), (KEYS[1], 0))
MEASURED = {(key, index): Mean(0.1 * i - 0.4, 0.01 * i, 7) for i, key in enumerate(KEYS) for index in (1, 4)}


def test_rows_are_the_ranking_with_all_that_is_known() -> None:
    scores = scored(0, stderr=True)
    table = rows(scores, mask_of(*GONE), MEASURED)
    assert list(values(table)) == [(key, index) for _, key, index in scores.ranking()]
    for row, (value, key, index) in zip(table.to_dict("records"), scores.ranking(), strict=True):
        matrix = scores.matrices[key]
        assert (row["matrix"], row["kind"], row["layer"]) == (str(key), str(key.kind), key.layer)
        assert (None if row["head"] is pd.NA else row["head"]) == key.head
        assert row["score"] == row["predicted"] == value
        assert row["sigma"] == float(matrix.s[index])
        assert matrix.stderr is not None
        assert row["stderr"] == float(matrix.stderr[index])
        assert row["doubt"] == ("?" if index in matrix.uncertain_indices else "")
        assert row["removed"] == ((key, index) in GONE)
        known = MEASURED.get((key, index))
        assert (
            (row["exact"] == known.value and row["exact_stderr"] == known.stderr) if known else np.isnan(row["exact"])
        )
    assert table["head"].isna().sum() == R
    assert table["at_mask"].isna().all()


def test_at_a_mask_the_ranking_goes_by_its_scores() -> None:
    scores, now = scored(0), scored(1, stderr=True)
    table = rows(scores, EMPTY, {}, now)
    assert list(values(table)) == [(key, index) for _, key, index in now.ranking()]
    first = now.ranking()[0]
    assert table["predicted"].iloc[0] == table["at_mask"].iloc[0] == first[0]
    assert table["score"].iloc[0] == float(scores.matrices[first[1]].score[first[2]])
    assert table["doubt"].iloc[0] == "?"
    assert not table["stderr"].isna().any()


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(kinds=(Kind.Q, Kind.OUT), sign="harmful"),
        Filters(layers=(1,), doubt="doubtful"),
        Filters(heads=(1,), doubt="reliable", sign="needed"),
        Filters(least=0.7),
        Filters(layers=(7,)),
    ],
)
def test_filters_keep_what_a_loop_keeps(filters: Filters) -> None:
    scores = scored(2)
    expected = [
        (key, index)
        for value, key, index in scores.ranking()
        if (not filters.kinds or key.kind in filters.kinds)
        and (not filters.layers or key.layer in filters.layers)
        and (not filters.heads or key.head in filters.heads)
        and {"all": True, "harmful": value < 0, "needed": value > 0}[filters.sign]
        and (
            filters.doubt == "all" or (index in scores.matrices[key].uncertain_indices) == (filters.doubt == "doubtful")
        )
        and abs(value) >= filters.least
    ]
    shown = filters.of(rows(scores, EMPTY, {}))
    assert list(values(shown)) == expected
    assert shown.index.tolist() == list(range(len(expected)))


def test_a_spread_sample_goes_from_end_to_end() -> None:
    table = rows(scored(3), EMPTY, {})
    picked = spread(table, 6)
    assert picked.index.tolist() == [0, 6, 12, 17, 23, 29]
    assert len(spread(table, 500)) == len(table)
    assert spread(table, 1).index.tolist() == [0]
    assert len(spread(table.head(0), 4)) == 0


def test_agreement_is_scipys_per_kind_and_over_all() -> None:
    table = rows(scored(4), EMPTY, MEASURED)
    found = agreement(table)
    assert list(found) == ["Q", "K", "OUT", "all"]
    pairs = [(float(scored(4).matrices[key].score[i]), mean.value) for (key, i), mean in MEASURED.items()]
    predicted, exact = zip(*pairs, strict=True)
    assert found["all"].n == len(MEASURED)
    assert found["all"].spearman == pytest.approx(stats.spearmanr(predicted, exact).statistic)
    assert found["all"].pearson == pytest.approx(stats.pearsonr(predicted, exact).statistic)
    clear = [(p, e) for p, e in pairs if abs(e) > 1e-5]
    assert found["all"].sign_agreement == pytest.approx(sum(p * e > 0 for p, e in clear) / len(clear))
    assert math.isnan(found["K"].spearman)  # two values
    assert not agreement(rows(scored(4), EMPTY, {}))


def test_offenders_are_furthest_off_first() -> None:
    table = rows(scored(5), EMPTY, MEASURED)
    errors = {
        value: abs(float(scored(5).matrices[value[0]].score[value[1]]) - mean.value) for value, mean in MEASURED.items()
    }
    worst = offenders(table, 4)
    assert list(values(worst)) == sorted(errors, key=lambda value: -errors[value])[:4]
    assert worst["error"].tolist() == pytest.approx(sorted(errors.values(), reverse=True)[:4])
    assert len(measured(table)) == len(MEASURED)


def test_cells_hold_the_worst_score_and_the_number_of_harmful_ones() -> None:
    scores = scored(6)
    found = {cell.matrix: cell for cell in cells(scores, mask_of(*GONE))}
    assert set(found) == {str(key) for key in KEYS}
    for key in KEYS:
        score, cell = scores.matrices[key].score.tolist(), found[str(key)]
        assert (cell.layer, cell.kind, cell.head) == (key.layer, str(key.kind), key.head)
        assert cell.worst == min(score) == score[cell.index]
        assert (cell.harmful, cell.values) == (sum(one < 0 for one in score), R)
        assert cell.removed == sum(key == gone for gone, _ in GONE)


def test_too_many_heads_become_one_cell_per_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_map, "COLUMNS", 3)
    scores = scored(7)
    found = cells(scores, mask_of(*GONE))
    assert [(cell.layer, cell.kind) for cell in found] == [(0, "Q"), (0, "K"), (1, "Q"), (1, "OUT")]
    queries = {key: scores.matrices[key].score for key in KEYS if (key.layer, key.kind) == (0, Kind.Q)}
    worst = min(queries, key=lambda key: float(queries[key].min()))
    assert found[0].matrix == str(worst)
    assert found[0].head is None
    assert found[0].worst == min(float(score.min()) for score in queries.values())
    assert found[0].harmful == sum(int((score < 0).sum()) for score in queries.values())
    assert (found[0].values, found[0].removed) == (2 * R, 1)


def test_a_click_is_taken_only_for_a_matrix_that_is_shown() -> None:
    def event(identifier: object) -> dict[str, object]:
        return {"selection": {"points": [{"id": identifier, "x": 0}]}}

    shown = {"L0.Q.H1", "<b>"}
    assert clicked(event("L0.Q.H1"), shown) == MatrixKey.parse("L0.Q.H1")
    for bad in ("L9.Q.H1", "<b>", 3, None, ["L0.Q.H1"]):
        assert clicked(event(bad), shown) is None
    for nothing in (None, {}, {"selection": {"points": []}}, {"selection": {"points": ["L0.Q.H1"]}}):
        assert clicked(nothing, shown) is None
