"""Recipes are read as they stand, and refused with the file and the field."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.experiments.reproduce.recipe import Released, Searched, SuiteRecipe, read_recipe
from explorer.experiments.reproduce.suites import find_suite, suites
from explorer.tasks import Cases, load_task
from tests.unit.reproduce.recipes import QUICK, write

# The published table, typed from the paper: test accuracy in percent, before and after.
PUBLISHED = {
    ("phi-2", "int-sum"): (1.45, 46.10),
    ("phi-2", "int-mult"): (13.75, 97.50),
    ("phi-2", "cb"): (42.86, 51.79),
    ("phi-2", "copa"): (78.00, 84.00),
    ("phi-2", "rte"): (42.96, 44.04),
    ("gpt2", "int-sum"): (3.00, 3.20),
    ("gpt2", "int-mult"): (13.75, 15.00),
    ("gpt2", "cb"): (10.71, 12.50),
    ("gpt2", "copa"): (55.00, 55.00),
    ("gpt2", "rte"): (0.36, 1.44),
    ("gpt2-finetuned", "int-sum"): (4.00, 4.00),
    ("gpt2-finetuned", "int-mult"): (0.00, 0.00),
    ("gpt2-finetuned", "cb"): (41.07, 50.00),
    ("gpt2-finetuned", "copa"): (55.00, 55.00),
    ("gpt2-finetuned", "rte"): (47.29, 52.71),
}
SIZES = {"int-sum": 2000, "int-mult": 80, "cb": 56, "copa": 100, "rte": 277}


def read(tmp_path: Path, text: str = QUICK, **replaced: str) -> SuiteRecipe:
    return read_recipe(write(tmp_path, text, **replaced))


def test_a_recipe_says_what_its_file_says(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.name, found.seed, found.control_draws) == ("quick", 0, 2)
    assert found.controls == ("random-per-matrix", "smallest", "largest")
    assert (found.model.located, found.model.title) == ("bundled", "Small | one")
    assert isinstance(found.strategy, Searched)
    assert found.strategy.chosen == (Kind.Q, Kind.K)
    assert not found.released
    revised = read(tmp_path, source='source = "org/model"\nrevision = "v1"')
    assert revised.model.located == "org/model@v1"


@pytest.mark.parametrize(
    ("field", "line", "said"),
    [
        ("source", "", "model.source is missing"),
        ("label", 'lable = "x"', "model.lable is not a field of recipes"),
        ("label", "label = 3", "model.label: input should be a valid string"),
        ("control_draws", "control_draws = -1", "control_draws: input should be greater than or equal to 0"),
        ("limit", "limit = 0", "task.limit: input should be greater than or equal to 1"),
        ("limit", 'limit = "12"', "task.limit: input should be a valid integer"),
        ("kinds", 'kinds = "X"', "strategy.kinds: 'X' is not a list of kinds: expected some of Q, K"),
        ("max_removed", "max_removed = 1.5", "strategy.max_removed: 1.5 is neither a whole number of 1 or more nor a"),
        ("max_removed", "max_removed = 0", "strategy.max_removed: 0 is neither"),
        ("max_removed", "fraction = 0.2", "strategy.fraction is not a field of recipes"),
        ("label", 'revision = "--upload"', "model.revision: string should match pattern"),
        ("test_limit", "reference_shots = 65", "task.reference_shots: input should be less than or equal to 64"),
        (
            "max_removed",
            "[published]\nbefore = 1\nafter = 101\nn = 3\ntolerance = 1",
            "published.after: input should be",
        ),
        ("max_removed", "[published]\nbefore = nan\nafter = 1\nn = 3\ntolerance = 1", "published.before: input should"),
        ("max_removed", "[truth]\nvalues = []", "truth.values: tuple should have at least 1 item"),
        (
            "max_removed",
            "[truth]\nvalues = [{matrix = 'L0', index = 0}]",
            "truth.values.0.matrix: 'L0' is not a matrix",
        ),
        (
            "max_removed",
            "stacked = true\n[truth]\nvalues = [{matrix = 'L0.K.H1', index = 0}]",
            "truth.values names heads, so strategy.stacked must be false",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_and_field(tmp_path: Path, field: str, line: str, said: str) -> None:
    path = write(tmp_path, **{field: line})
    with pytest.raises(SettingsError) as caught:
        read_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said.lower() in message.lower()
    assert "\n" not in message
    assert message.endswith(".")


def test_an_unknown_task_is_refused_with_the_tasks_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"task.name: 'sums' is not a built-in task: choose one of int-sum, "):
        read(tmp_path, QUICK.replace('"int-mult"', '"sums"'))


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    broken, large = tmp_path / "broken.toml", tmp_path / "large.toml"
    broken.write_text("name = ", encoding="utf-8")
    large.write_text("#" * 100_001, encoding="utf-8")
    for path, said in (
        (broken, "is not TOML"),
        (large, "has 100,001 bytes"),
        (tmp_path / "gone.toml", "cannot be read"),
    ):
        with pytest.raises(SettingsError, match=said):
            read_recipe(path)


def test_the_digest_covers_what_decides_the_result_and_nothing_else(tmp_path: Path) -> None:
    plain = read(tmp_path)
    same = [
        read(tmp_path, name="other"),
        read(tmp_path, label='label = "Other"'),
        read(tmp_path, max_removed="max_removed = 2\n[published]\nbefore = 1\nafter = 2\nn = 3\ntolerance = 1"),
    ]
    others = [
        read(tmp_path, max_removed="max_removed = 3"),
        read(tmp_path, kinds='kinds = "Q"'),
        read(tmp_path, limit="limit = 23"),
        read(tmp_path, source='source = "elsewhere"'),
        read(tmp_path, control_draws="control_draws = 3"),
        read(tmp_path, max_removed="max_removed = 2\n[finetune]"),
    ]
    assert {one.digest for one in same} == {plain.digest}
    assert len({plain.digest, *(one.digest for one in others)}) == 1 + len(others)


def test_a_recipe_of_before_has_other_splits_now_and_its_cell_the_published_ones(tmp_path: Path) -> None:
    """What a recipe says of its splits counts where there are twins: the published ones are those of before."""
    plain, published = read(tmp_path), read(tmp_path, limit='splits = "published"\nlimit = 24')
    held_out = read(tmp_path, limit='hold_out = "operands"\nlimit = 24')
    assert len({plain.digest, published.digest, held_out.digest}) == 3
    assert plain.load_task(None).digest == load_task("int-mult").digest
    assert published.load_task(None).digest == load_task("int-mult", cases=Cases("published")).digest
    assert held_out.load_task(None).digest == load_task("int-mult", cases=Cases(hold_out="operands")).digest
    alone = QUICK.replace('"int-mult"', '"capitals"')
    others = [read(tmp_path, alone), read(tmp_path, alone, limit='splits = "published"\nlimit = 24')]
    assert len({one.digest for one in others}) == 1
    with pytest.raises(SettingsError, match="the published splits hold nothing out"):
        read(tmp_path, limit='splits = "published"\nhold_out = "answers"\nlimit = 24')
    for suite in suites():
        for recipe in suite.recipes:
            assert recipe.task.splits == ("published" if recipe.task.name.startswith("int-") else "twins")


def test_shares_and_numbers_of_values(tmp_path: Path) -> None:
    for line, total, most in (("2", 10, 2), ("20", 10, 10), ("0.25", 10, 2), ("0.01", 10, 1)):
        strategy = read(tmp_path, max_removed=f"max_removed = {line}").strategy
        assert isinstance(strategy, Searched)
        assert strategy.at_most(total) == most


# --------------------------------------------------------------------------------------- those that come with it


def test_the_paper_suite_is_the_published_table_as_released_and_corrected() -> None:
    found = {(one.model.name, one.task.name, one.released): one for one in find_suite("paper").recipes}
    assert set(found) == {(*cell, released) for cell in PUBLISHED for released in (True, False)}
    assert len(find_suite("paper").recipes) == 30
    for (model, task, released), one in found.items():
        assert one.published is not None
        assert (one.published.before, one.published.after) == PUBLISHED[model, task]
        assert one.published.n == SIZES[task]
        assert (one.finetune is not None) == (model == "gpt2-finetuned")
        assert one.name == f"{model}-{task}-{'as-released' if released else 'corrected'}"
        assert one.model.revision is not None
        assert len(one.model.revision) == 40
        assert one.strategy.chosen == (Kind.K,)


def test_the_paper_suite_runs_the_released_code_in_its_own_settings() -> None:
    for one in find_suite("paper").only(strategy="as-released").recipes:
        assert isinstance(one.strategy, Released)
        assert (one.strategy.fraction, one.strategy.answer_token) == (0.2, 1 if one.task.name == "rte" else 0)
        if one.finetune is not None:
            assert (one.finetune.epochs, one.finetune.learning_rate, one.finetune.optimizer) == (1, 0.01, "adam")


def test_published_tolerances_are_the_half_width_of_the_interval_at_the_published_accuracy() -> None:
    for one in find_suite("paper").recipes:
        assert one.published is not None
        n = one.published.n
        widths = []
        for percent in (one.published.before, one.published.after):
            p, z = round(percent * n / 100) / n, 1.959963984540054
            centre = (p + z * z / (2 * n)) / (1 + z * z / n)
            margin = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            widths.append(100 * (margin + abs(centre - p)))
        assert one.published.tolerance == pytest.approx(max(widths), abs=0.11)


def test_every_suite_can_be_run_by_the_strategies_that_there_are() -> None:
    from explorer.experiments.reproduce.run import check
    from explorer.search import METHODS

    assert [one.name for one in suites()] == ["bundled", "paper", "smollm2"]
    for suite in suites():
        check(suite.recipes)
    for kinds in ("Q,K", "all"):
        names = [one.strategy.name for one in find_suite("bundled").recipes if one.strategy.kinds == kinds]
        assert sorted(names) == ["adaptive", "as-released", "ensemble", "laser", "learned", "paper", "verified"]
        assert set(names) <= {"as-released", *METHODS}


def test_the_bundled_suite_knows_the_planted_values() -> None:
    import json

    from explorer.core.config import ASSETS

    planted = json.loads((ASSETS / "bundled" / "figures.json").read_text(encoding="utf-8"))["planted"]
    for one in find_suite("bundled").recipes:
        assert one.truth is not None
        assert {(v.matrix, v.index) for v in one.truth.values} == {(v["key"], v["index"]) for v in planted}


def test_the_smollm2_suite_has_every_strategy_wherever_it_can_be_run() -> None:
    recipes = find_suite("smollm2").recipes
    searches = {"paper", "verified", "learned", "laser"}
    tasks = {
        task: {one.strategy.name for one in recipes if one.task.name == task} for task in ("int-mult-12", "int-sum")
    }
    assert tasks == {"int-mult-12": searches, "int-sum": searches}  # digits are tokens: prompts of several lengths
    for task in ("cb", "copa", "rte"):
        assert {one.strategy.name for one in recipes if one.task.name == task} == {"as-released", *searches}
    assert all(one.control_draws == 20 for one in recipes)
    assert {one.task.limit for one in recipes if one.task.name != "int-mult-12"} == {64}
    assert {one.task.reference_shots for one in recipes if one.task.name == "int-mult-12"} == {3}
