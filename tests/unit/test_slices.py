"""Slices against pandas, Holm against its definition; the command against the engine."""

from __future__ import annotations

import json
import math
from itertools import pairwise, product
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from explorer.actions.loaded import LoadedModel
from explorer.actions.slices import SlicesResult
from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import Kind
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.measure.metrics import wilson_interval
from explorer.measure.multiple import holm_adjusted
from explorer.measure.slices import BINS, MOST, columns, slices, slices_sentence
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Cases, Example, Task, load_task
from tests.commands import keys_of, refused, report, run

N = 300


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    lots = Random(3)
    return pd.DataFrame(
        {
            "prompt": [f"{place} {lots.choice(['is', 'is not'])}" for place in range(N)],
            "answer": [lots.choice([" yes", " no", " maybe"]) for _ in range(N)],
            "topic": [lots.choice(["a", "b", None]) for _ in range(N)],
            "size": [lots.uniform(-5, 5) for _ in range(N)],
            "name": [f"n{lots.randrange(60)}" for _ in range(N)],
            "before": [lots.random() < 0.5 for _ in range(N)],
            "after": [lots.random() < 0.7 for _ in range(N)],
            "loss_before": [lots.expovariate(1) for _ in range(N)],
            "loss_after": [lots.expovariate(1) for _ in range(N)],
        }
    )


@pytest.fixture(scope="module")
def examples(frame: pd.DataFrame) -> tuple[Example, ...]:
    def further(place: int) -> tuple[tuple[str, str], ...]:
        row = frame.iloc[place]
        topic = [("topic", row["topic"])] if isinstance(row["topic"], str) else []
        return (*topic, ("size", repr(float(row["size"]))), ("name", row["name"]))

    return tuple(Example(frame["prompt"][n], frame["answer"][n], columns=further(n)) for n in range(N))


@pytest.fixture(scope="module")
def found(frame: pd.DataFrame, examples: tuple[Example, ...]) -> Comparison:
    sides = [
        Evaluation(examples, tuple(frame[f"loss_{one}"]), tuple(map(bool, frame[one])), answers=("",) * N)
        for one in ("after", "before")
    ]
    return Comparison(*sides)


@pytest.mark.parametrize("by", ["answer", "topic"])
def test_slices_are_the_groups_of_pandas(
    frame: pd.DataFrame, found: Comparison, examples: tuple[Example, ...], by: str
) -> None:
    made = {one.name: one for one in slices(found, examples, by)}
    labels = frame[by].str.strip().fillna(f"without {by}")
    assert set(made) == set(labels)
    for name, rows in frame.groupby(labels):
        one = made[str(name)]
        assert list(one.places) == list(rows.index)
        assert (one.n, one.masked["n"]) == (len(rows), len(rows))
        assert one.baseline["accuracy"] == pytest.approx(rows.before.mean())
        assert one.masked["accuracy"] == pytest.approx(rows.after.mean())
        assert one.masked["accuracy_interval"] == list(wilson_interval(int(rows.after.sum()), len(rows)))
        change = rows.loss_after - rows.loss_before
        assert one.loss_change["value"] == pytest.approx(change.mean())
        assert one.loss_change["stderr"] == pytest.approx(change.sem())
        low, high = one.loss_change["interval"]
        assert low < change.mean() < high
        assert one.repaired == (rows.after & ~rows.before).sum()
        assert one.broken == (rows.before & ~rows.after).sum()
        assert one.p == pytest.approx(binomtest(int(one.repaired), int(one.repaired + one.broken)).pvalue)


def test_numbers_are_cut_at_quantiles(frame: pd.DataFrame, found: Comparison, examples: tuple[Example, ...]) -> None:
    made = slices(found, examples, "size")
    assert len(made) == BINS
    ends = [(frame["size"][list(one.places)].min(), frame["size"][list(one.places)].max()) for one in made]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert sorted(place for one in made for place in one.places) == list(range(N))
    assert all(abs(one.n - N / BINS) <= 1 for one in made)
    for one, (low, high) in zip(made, ends, strict=True):
        assert one.only == f"size={float(low)!r}..{float(high)!r}"


def test_many_texts_are_the_most_frequent_and_the_others(
    frame: pd.DataFrame, found: Comparison, examples: tuple[Example, ...]
) -> None:
    made, counts = slices(found, examples, "name"), frame["name"].value_counts()
    assert len(made) == MOST + 1
    assert [one.n for one in made[:-1]] == sorted(counts, reverse=True)[:MOST]
    assert made[-1].name == f"{len(counts) - MOST} others"
    assert made[-1].only is None
    assert sum(one.n for one in made) == N


def test_a_condition_makes_two_slices(frame: pd.DataFrame, found: Comparison, examples: tuple[Example, ...]) -> None:
    with_it, without = slices(found, examples, "prompt~NOT")
    assert list(with_it.places) == list(frame.index[frame.prompt.str.contains("not")])
    assert with_it.n + without.n == N
    assert (with_it.only, without.only) == ("prompt~NOT", None)
    with pytest.raises(TaskError, match="is no condition"):
        slices(found, examples, "prompt~")


def test_what_was_right_before_is_told_apart_with_a_warning(
    frame: pd.DataFrame, found: Comparison, examples: tuple[Example, ...]
) -> None:
    made = slices(found, examples, "before")
    assert [(one.name, one.n) for one in made] == [
        ("right before", int(frame.before.sum())), ("wrong before", int((~frame.before).sum())),
    ]  # fmt: skip
    assert (made[0].repaired, made[1].broken) == (0, 0)
    assert "can only break" in slices_sentence(made, "before")


def test_every_column_is_on_offer_and_others_are_refused(found: Comparison, examples: tuple[Example, ...]) -> None:
    offered = columns(examples)
    assert offered == ("answer", "length", "topic", "size", "name", "before")
    for by in offered:
        made = slices(found, examples, by)
        assert sorted(place for one in made for place in one.places) == list(range(N))
        assert [one.p_holm for one in made] == holm_adjusted([one.p for one in made])
    with pytest.raises(SettingsError, match="there is no column 'colour': slice by answer, length"):
        slices(found, examples, "colour")


def test_a_slice_is_what_its_condition_makes_of_the_task() -> None:
    task = load_task("int-mult")
    one = Evaluation(task.test, (1.0,) * len(task.test), (True,) * len(task.test), answers=("",) * len(task.test))
    for by in ("i", "length", "answer"):
        for made in slices(Comparison(one, one), task.test, by):
            if made.only is not None:
                part = load_task("int-mult", cases=Cases(only=made.only))
                assert part.test == tuple(task.test[place] for place in made.places)


def rejected(p: list[float], level: float) -> list[bool]:
    """Holm's steps by the book: the smallest is held against level / m, the next against level / (m - 1), ..."""
    found, left = [False] * len(p), sorted(range(len(p)), key=lambda place: p[place])
    while left and p[left[0]] * len(left) <= level:
        found[left.pop(0)] = True
    return found


def test_holm_rejects_what_its_steps_reject() -> None:
    lots = np.random.default_rng(0)
    for size, level in product((1, 2, 5, 12), (0.01, 0.05, 0.3)):
        for _ in range(50):
            p = (lots.random(size) ** 4).tolist()
            assert [one <= level for one in holm_adjusted(p)] == rejected(p, level)


def test_holms_values_are_those_of_r() -> None:
    """p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and p.adjust(c(0.5, 0.9, 0.6), "holm")."""
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.5, 0.9, 0.6]) == [1.0, 1.0, 1.0]
    assert holm_adjusted([]) == []
    first, second = holm_adjusted([math.nan, 0.01])
    assert math.isnan(first)
    assert second == pytest.approx(0.02)


def test_the_command_says_what_the_engine_does(
    folder: Path, model: Model, tiny_task: Task, svds: SvdCache, tmp_path: Path
) -> None:
    mask = prune(model.view(), tiny_task, svds, kinds=[Kind.V], count=3)
    mask.save(tmp_path / "m.json")
    rows = [
        {"prompt": f"w{a} w{b}", "answer": f" w{(a + b) % 5}", "topic": "low" if a < 3 else "high"}
        for a in range(6) for b in range(6)
    ]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("slices", "--model", str(folder), "--task", tmp_path / "own.jsonl", "--split", "train")
    told = report(*words, "--mask", tmp_path / "m.json", "--by", "topic", "--examples")
    assert list(told) == keys_of(SlicesResult)
    loaded, task = LoadedModel.of(model), load_task(str(tmp_path / "own.jsonl"))
    made = loaded.slices(mask, task, "topic", split="train")
    assert told["slices"] == json.loads(json.dumps([one.as_dict() for one in made]))
    assert {one["name"] for one in told["slices"]} == {"low", "high"}
    assert [one["prompt"] for one in told["examples"]] == [one.prompt for one in task.train]
    part = report("eval", *words[1:], "--mask", tmp_path / "m.json", "--only", "topic=low")
    low = next(one for one in told["slices"] if one["name"] == "low")
    assert (part["n"], part["only"]) == (low["n"], "topic=low")
    assert part["accuracy"] == low["masked"]["accuracy"]
    assert part["loss"] == pytest.approx(low["masked"]["loss"], rel=1e-5)
    shown = run(*words, "--mask", tmp_path / "m.json", "--by", "topic").stdout
    assert slices_sentence(made, "topic") in shown
    assert "there is no column" in refused(*words, "--by", "colour")
    assert "has no column" in refused(*words, "--only", "colour=red")


def test_a_mask_of_a_slice_says_so(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    task = ("--task", "int-mult", "--only", "i=3")
    run("prune", "--model", "bundled", *task, "--kinds", "Q", "--count", 1, "--limit", 4, "--out", out)
    assert json.loads(out.read_text())["provenance"]["only"] == "i=3"
