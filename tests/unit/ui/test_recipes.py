"""Recipes of all actions: run as a command and as Python, they give the numbers of the engine that the pages call."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from explorer.actions import TaskChoice
from explorer.attribution import Options, Scores, score
from explorer.attribution.exact import Value, exact_effects
from explorer.core.config import settings
from explorer.core.keys import CircuitKey, Kind, MatrixKey, parse_key
from explorer.experiments.study import StudyOptions, study_scorers
from explorer.experiments.transfer import refreeze, transfer
from explorer.masks.activations import Contrast, answer_lens, read_prompt, written
from explorer.masks.apply import apply
from explorer.masks.damage import damage
from explorer.masks.mask import Mask, load_mask
from explorer.masks.sets import overlaps, vote
from explorer.measure.batches import batches
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.readout import readouts
from explorer.measure.sampling import draw_sample
from explorer.models import Model, View, load
from explorer.models.matrices import matrices
from explorer.search import lowest, mask_of
from explorer.search.anchor import anchor_blocks
from explorer.search.options import StrategyOptions
from explorer.search.outcome import Budget
from explorer.search.paper import paper
from explorer.search.problem import Problem
from explorer.search.report import Evidence, Report, search
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.spectra.circuits import decompose_circuit
from explorer.spectra.model_diff import compare_matrix
from explorer.tasks import load_task
from explorer.ui.shell import recipes
from explorer.ui.shell.recipes import RECIPES, Recipe, Setting, is_file_task
from tests import tiny
from tests.commands import run as run_command
from tests.siblings import tuned_bundled

ROOT = Path(__file__).resolve().parents[3]
MASK = Path("/my masks/it's.mask.json")
PLAIN = Setting("bundled", "raw", load_task("int-mult"), "validation", None, MASK, text=False)
PLACES = (("L0.Q.H3", 0), ("L0.Q.H3", 3), ("L2.OUT", 1))
VALUES: tuple[Value, ...] = tuple((MatrixKey.parse(key), index) for key, index in PLACES)
KEYS = [parse_key(one) for one in ("L0.K.H1", "L1.OUT", "L0.QK.H2")]
COUNTS, EXAMPLES, DRAWS, LIMIT = (1, 4), 16, 3, 24
ASKED = SearchRequest("paper", (Kind.Q,), (0, 1), True, "freeze", "gradient", LIMIT, 4, None, 0, 2, 20)
RESEEDED = replace(ASKED, strategy="random-search", seed=5)  # than that of the splits
PER_KIND = replace(ASKED, kinds=(Kind.Q, Kind.K), options=StrategyOptions(per_kind=True))
LIMITED = replace(ASKED, kinds=(Kind.Q, Kind.K), layers=None, max_removed=16, growth=0.01)
ANOTHER_WAY = load_task("int-mult", template="{j} x {i} =")
PROMPT, ANSWER = "3 x 4 =", " 12"
GAIN, SOFTER = 0.25, ", softer"  # what stays of the values, and the names of recipes of a mask with this gain


class Engine:
    """The engine with a mask of Q and K, and another one, in files."""

    def __init__(self, model: Model, svds: SvdCache, folder: Path) -> None:
        self.view: View = model.view()
        self.svds = svds
        self.task = load_task("int-mult", shots=1)
        self.scores = self.score((Kind.Q, Kind.K))
        self.first, self.second = (self.lowest(count) for count in (4, 7))
        self.files = tuple(folder / f"{len(mask)} it's.mask.json" for mask in (self.first, self.second))
        for mask, path in zip((self.first, self.second), self.files, strict=True):
            mask.save(path)
        self.setting = replace(
            PLAIN, task=self.task, mask=self.files[0], limit=LIMIT, score_limit=LIMIT, split="validation"
        )
        self.letters = str(tiny.save_letters(folder / "letters"))
        soft = folder / "softer.mask.json"
        self.first.scaled(GAIN).save(soft)
        self.softer = replace(self.setting, mask=soft, gain=GAIN)
        self.tuned = tuned_bundled(folder / "tuned")
        self.superglue = _copa(folder / "super glue")

    def score(self, kinds: tuple[Kind, ...] | None, **further: Any) -> Scores:
        keys = matrices(self.view, kinds)
        return score(self.view, self.task, self.svds, keys, limit=LIMIT, **further)

    def lowest(self, count: int, gain: float = 0.0) -> Mask:
        return mask_of(self.view, self.scores, lowest(self.scores, count), gain=gain)

    def evaluate(self, mask: Mask) -> Evaluation:
        apply(self.view, mask, self.svds)
        found = evaluate(self.view, self.task, "validation", limit=LIMIT)
        apply(self.view, mask.without_all(), self.svds)
        return found


def _copa(folder: Path) -> Path:
    """A folder of SuperGLUE's data that holds some of COPA."""
    row = {"choice1": "w2", "choice2": "w3", "question": "cause", "label": 0}
    (folder / "copa").mkdir(parents=True)
    for split in ("train", "validation"):
        lines = [json.dumps({**row, "premise": f"{split} {n}"}) for n in range(20)]
        (folder / "copa" / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def engine(bundled: Model, svds: SvdCache, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(bundled, svds, tmp_path_factory.mktemp("masks of mine"))


def every(engine: Engine) -> dict[str, Recipe]:
    """A recipe of each row of the table, and of its variants."""
    given = engine.setting
    bare = replace(given, mask=None)
    soft, bare_soft = engine.softer, replace(engine.softer, mask=None)
    both = engine.files
    found = {
        "activations": recipes.activations(given, PROMPT, (0, 3), 5, ANSWER),
        "activations, softer": recipes.activations(soft, PROMPT, (0, None), 5),
        "activations, unpruned": recipes.activations(bare, PROMPT, (0, 3), 5),
        "against": recipes.against(bare, str(engine.tuned), KEYS, 5),
        "combine": recipes.combine("majority", [*both, both[0]]),
        "combine, less": recipes.combine("second without first", both),
        "controls": recipes.controls(given, DRAWS),
        "controls, softer": recipes.controls(soft, DRAWS),
        "curve": recipes.curve(bare, COUNTS, EXAMPLES),
        "curve, softer": recipes.curve(bare_soft, COUNTS, EXAMPLES),
        "damage": recipes.damage(given, both[0], ["int-sum", "int-mult"], LIMIT, text=False),
        "damage, from a folder": recipes.damage(
            given, both[0], ["copa", "int-sum"], LIMIT, text=False, data=engine.superglue
        ),
        "effects": recipes.effects(bare, VALUES),
        "effects, at the mask": recipes.effects(given, VALUES),
        "effects, at the mask, softer": recipes.effects(soft, VALUES),
        "evaluate": recipes.evaluate(given),
        "evaluate, softer": recipes.evaluate(soft),
        "evaluate, unpruned": recipes.evaluate(bare),
        "lowest": recipes.lowest(bare, 4),
        "lowest, softer": recipes.lowest(bare_soft, 4),
        "own damage": recipes.own_damage(given),
        "own damage, in other words": recipes.own_damage(replace(given, task=ANOTHER_WAY)),
        "pair": recipes.pair(bare, *both),
        "ranking": recipes.ranking(bare, bootstrap=20),
        "ranking, every kind at the mask": recipes.ranking(given, every=True),
        "readout": recipes.readout(bare, KEYS[0], 2, 3),
        "readout, of a product": recipes.readout(bare, KEYS[2], 1, 3),
        "search": recipes.search(bare, ASKED),
        "search, by another seed": recipes.search(bare, RESEEDED),
        "search, with an option": recipes.search(bare, PER_KIND),
        "search, limited": recipes.search(
            replace(bare, model=engine.letters, task=load_task("int-mult"), text=True), LIMITED
        ),
        "spectra": recipes.spectra(bare, KEYS),
        "study": recipes.study(replace(bare, kinds=(Kind.Q,), score_limit=8)),
        "transfer": recipes.transfer(replace(bare, task=ANOTHER_WAY), both[0], sibling=False),
        "transfer, to a sibling": recipes.transfer(replace(bare, model=str(engine.tuned)), both[0], sibling=True),
    }
    return {name: recipe for name, recipe in found.items() if recipe is not None}


def test_every_row_of_the_table_is_run_here(engine: Engine) -> None:
    assert {name.partition(", ")[0] for name in every(engine)} == set(RECIPES)


@pytest.fixture(scope="module")
def printed(engine: Engine, own_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the Python of each recipe prints; each is a script of its own, all are run by one process to save time."""
    folder = tmp_path_factory.mktemp("scripts")
    names = list(every(engine))
    for place, recipe in enumerate(every(engine).values()):
        (folder / f"{place}.py").write_text(recipe.python)
    lines = ["import runpy", *(f"runpy.run_path('{i}.py'); print('-----')" for i in range(len(names)))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, timeout=280, check=False,
        env=_environment(own_folders),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(names, done.stdout.split("-----\n"), strict=False))


def _environment(folders: Path) -> dict[str, str]:
    own = {"EIGENPRUNE_CACHE": str(folders / "cache"), "EIGENPRUNE_WORKSPACE": str(folders / "workspace")}
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own}


@pytest.fixture
def commanded(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command of a recipe by name, in a folder of its own; gives what each of its lines printed."""
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> list[dict[str, Any]]:
        command = every(engine)[name].command
        assert command is not None
        found = []
        for line in command.splitlines():
            first, *words = shlex.split(line)
            assert first == "eigenprune"
            result = run_command(*words)
            assert result.exit_code == 0, result.stderr
            found.append(json.loads(result.stdout))
        return found

    return run


def numbers(text: str, pattern: str) -> list[float]:
    """The numbers that a pattern's group finds."""
    return [float(one) for one in re.findall(pattern, text)]


ACCURACY, LOSS = r"accuracy ([\d.]+)", r"loss ([+\-\d.e]+)"
SIGNED = r": ([+-][\d.e+-]+)"


# The gain of the mask at hand, and what the names of its recipes end with.
GAINS = pytest.mark.parametrize(("gain", "end"), [(0.0, ""), (GAIN, SOFTER)])


@pytest.mark.slow
@GAINS
def test_accuracy_and_loss(engine: Engine, printed: dict[str, str], commanded: Any, gain: float, end: str) -> None:
    masked, unpruned = engine.evaluate(engine.first.scaled(gain)), engine.evaluate(engine.first.without_all())
    (report,) = commanded(f"evaluate{end}")
    assert (report["accuracy"], report["loss"]) == (masked.accuracy, masked.mean_loss.value)
    assert report["baseline"]["loss"] == unpruned.mean_loss.value
    (report,) = commanded("evaluate, unpruned")
    assert report["loss"] == unpruned.mean_loss.value
    for name, expected in ((f"evaluate{end}", [unpruned, masked]), ("evaluate, unpruned", [unpruned])):
        assert re.findall(LOSS, printed[name]) == [f"{one.mean_loss.value:.3f}" for one in expected]


@GAINS
def test_random_masks(engine: Engine, printed: dict[str, str], commanded: Any, gain: float, end: str) -> None:
    ranks = {key: len(one.s) for key, one in engine.scores.matrices.items()}
    lots = [Random(seed) for seed in range(DRAWS)]
    places = [
        [(key, index) for key, of in engine.first.by_matrix.items() for index in one.sample(range(ranks[key]), len(of))]
        for one in lots
    ]
    drawn = [[engine.scores.removed(*place) for place in one] for one in places]
    expected = [engine.evaluate(mask_of(engine.view, engine.scores, one, gain=gain)) for one in drawn]
    assert numbers(printed[f"controls{end}"], LOSS) == [one.mean_loss.value for one in expected]
    (report,) = commanded(f"controls{end}")
    assert report["controls"]["accuracy"] == [one.accuracy for one in expected]
    assert report["controls"]["loss"] == pytest.approx([one.mean_loss.value for one in expected], rel=1e-6)


@GAINS
def test_the_curve_along_the_ranking(
    engine: Engine, printed: dict[str, str], commanded: Any, gain: float, end: str
) -> None:
    apply(engine.view, engine.first.without_all(), engine.svds)
    sample = draw_sample(engine.view, engine.task, "validation", limit=LIMIT, most=EXAMPLES, seconds=float("inf"))
    masks = [engine.lowest(count, gain) for count in COUNTS]
    found = []
    for mask in masks:
        apply(engine.view, mask, engine.svds)
        found.append(sample.measure(engine.view))
    apply(engine.view, engine.first.without_all(), engine.svds)
    assert len(sample.examples) == EXAMPLES
    predicted = [engine.scores.predicted(mask) for mask in masks]
    text = printed[f"curve{end}"]
    assert numbers(text, LOSS) == [one.loss_change.value for one in found]
    assert numbers(text, ACCURACY) == [one.masked.accuracy for one in found]
    assert numbers(text, r"predicted (\S+)") == predicted
    (report,) = commanded(f"curve{end}")
    assert [one["removed"] for one in report["stops"]] == list(COUNTS)
    assert [one["loss_change"]["value"] for one in report["stops"]] == [one.loss_change.value for one in found]
    assert [one["accuracy"] for one in report["stops"]] == [one.masked.accuracy for one in found]
    assert [one["predicted_change"] for one in report["stops"]] == predicted
    assert report["baseline"]["loss"] == sample.baseline.mean_loss.value


def test_damage(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    for name, tasks in (
        ("damage", [load_task("int-sum"), load_task("int-mult")]),
        ("damage, from a folder", [load_task("copa", data=engine.superglue), load_task("int-sum")]),
        ("own damage", [engine.task]),
        ("own damage, in other words", [ANOTHER_WAY]),
    ):
        found = damage(engine.view, engine.first, engine.svds, tasks, None, split="validation", limit=LIMIT)
        expected = json.loads(json.dumps(found.as_dict()))
        assert json.loads(printed[name])["tasks"] == expected["tasks"]
        assert commanded(name)[0]["tasks"] == expected["tasks"]


def test_two_masks(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    found = [engine.evaluate(mask) for mask in (engine.first, engine.second)]
    both = Comparison(found[1], found[0])
    shared, one, other = commanded("pair")
    assert [one["loss"], other["loss"]] == [each.mean_loss.value for each in found]
    sets = overlaps(engine.first, engine.second)
    assert [entry["both"] for entry in shared["matrices"]] == [each.both for each in sets.values()]
    text = printed["pair"]
    assert f"loss {found[0].mean_loss.value} -> {found[1].mean_loss.value}, {both.loss_interval()}" in text
    assert f"McNemar p = {both.accuracy_test.p}" in text
    assert numbers(text, r"(\d+) in both") == [each.both for each in sets.values()]


def test_transferred_masks(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    sibling, svds = load(str(engine.tuned)).view(), engine.svds
    anew = refreeze(engine.view, engine.first, svds, ANOTHER_WAY, limit=LIMIT)
    carried = transfer(sibling, engine.first, svds, engine.task, limit=LIMIT)
    for name, view, task, made in (
        ("transfer", engine.view, ANOTHER_WAY, anew),
        ("transfer, to a sibling", sibling, engine.task, carried),
    ):
        found = damage(view, made, svds, [task], split="validation", limit=LIMIT)
        expected = json.loads(json.dumps(found.as_dict()))
        assert json.loads(printed[name])["tasks"] == expected["tasks"]
        (report,) = commanded(name)
        assert report["tasks"] == expected["tasks"]
        assert load_mask(Path(report["out"])) == made


def test_combined_masks(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    expected = {
        "combine": vote([engine.first, engine.second, engine.first], 2),
        "combine, less": engine.second.difference(engine.first),
    }
    for name, mask in expected.items():
        assert printed[name] == f"{len(mask)} removed\n"
        (report,) = commanded(name)
        assert load_mask(Path(report["out"])).removed == mask.removed


def test_the_ranking(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    for name, scores in (
        ("ranking", engine.score((Kind.Q, Kind.K), options=Options(bootstrap=20))),
        ("ranking, every kind at the mask", engine.score(None, mask=engine.first)),
    ):
        ranked = scores.ranking()
        (report,) = commanded(name)
        assert [(one["matrix"], one["index"], one["score"]) for one in report["values"]] == [
            (str(key), index, value) for value, key, index in ranked
        ]
        assert numbers(printed[name], SIGNED) == [value for value, _, _ in ranked]
        _, key, index = ranked[0]
        stderr = scores.matrices[key].stderr
        if stderr is not None:
            assert report["values"][0]["stderr"] == float(stderr[index])
            assert f"± {stderr[index]}" in printed[name].splitlines()[0]


@GAINS
def test_the_lowest_values(engine: Engine, printed: dict[str, str], commanded: Any, gain: float, end: str) -> None:
    (report,) = commanded(f"lowest{end}")
    mask = engine.first.scaled(gain)
    assert load_mask(Path(report["out"])).digest == mask.digest == report["mask_digest"]
    expected = [f"{one.matrix} {one.index}: sigma {one.sigma}, frozen mean {one.c}" for one in mask.removed]
    assert printed[f"lowest{end}"].splitlines() == [f"4 {mask.state}", *expected]


def test_exact_effects(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    cut = batches(engine.view, engine.task, engine.task.split("train", LIMIT))
    softer = engine.first.scaled(GAIN)
    for name, mask in (
        ("effects", None),
        ("effects, at the mask", engine.first),
        (f"effects, at the mask{SOFTER}", softer),
    ):
        found = exact_effects(engine.view, cut, engine.svds, VALUES, mask=mask).values
        (report,) = commanded(name)
        assert [(one["matrix"], one["index"]) for one in report["values"]] == [(str(key), i) for key, i in VALUES]
        assert [(one["exact"], one["stderr"]) for one in report["values"]] == [
            (one.value, one.stderr) for one in found.values()
        ]
        assert numbers(printed[name], SIGNED) == [one.value for one in found.values()]


@pytest.mark.slow
def test_the_study(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    keys = matrices(engine.view, (Kind.Q,))
    options = StudyOptions(limit=8)
    study = study_scorers(engine.view, engine.task, engine.svds, keys, scorers=["gradient"], options=options)
    (report,) = commanded("study")
    assert [one["spearman"] for one in report["trust"]] == [one.spearman for one in study.trust.values()]
    assert numbers(printed["study"], r"Spearman ([-\d.e]+)") == [one.spearman for one in study.trust.values()]


def test_spectra(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    (report,) = commanded("spectra")
    lines = [line for line in printed["spectra"].splitlines() if line.startswith("L")]
    for key, entry, line in zip(KEYS, report["spectra"], lines, strict=True):
        found = (
            decompose_circuit(engine.view, key) if isinstance(key, CircuitKey) else engine.svds.get(engine.view, key)
        )
        assert entry["singular_values"] == found.s.tolist()
        assert line == f"{key} {found.s.tolist()}"


def test_read_outs(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    key = KEYS[0]
    assert isinstance(key, MatrixKey)
    told = readouts(engine.view, key, engine.svds.get(engine.view, key), [2], 3)
    cut = batches(engine.view, engine.task, engine.task.split("train", LIMIT))
    effect = exact_effects(engine.view, cut, engine.svds, [(key, 2)]).values[key, 2]
    (report,) = commanded("readout")
    (value,) = report["values"]
    assert value["exact"]["value"] == effect.value
    assert f"exact effect {effect.value:+} nats" in printed["readout"]
    for one, end in zip(told, value["ends"], strict=True):
        assert [token["value"] for token in end["plus"]] == [token.value for token in one.plus]
        assert str([(token.text, token.value) for token in one.minus]) in printed["readout"]
    (product,) = commanded("readout, of a product")
    assert product["values"][0]["exact"] is None
    assert "exact effect" not in printed["readout, of a product"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    [("search", ASKED), ("search, by another seed", RESEEDED), ("search, with an option", PER_KIND)],
)
def test_a_search(name: str, asked: SearchRequest, engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    keys = matrices(engine.view, asked.kinds, asked.layers)
    problem = Problem(
        engine.view, engine.task, engine.svds, keys, Budget(asked.max_removed), limit=LIMIT, seed=asked.seed,
        text=anchor_blocks(engine.view),
    )  # fmt: skip
    run = asked.chosen(engine.task).run
    report = search(
        problem, engine.task, asked.strategy, run, evidence=Evidence(control_draws=2, test_limit=20, text=None)
    )
    found = report.comparison.masked
    (told,) = commanded(name)
    assert (told["removed"], told["test"]["loss"]) == (len(report.mask), found.mean_loss.value)
    assert load_mask(Path(told["out"])).removed == report.mask.removed
    start = f"{len(report.mask)} removed: accuracy {found.accuracy}, loss {found.mean_loss.value}, n = {found.n}"
    assert printed[name] == start + "\n"


@pytest.mark.slow
def test_a_search_that_limits_the_perplexity(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    view, task = load(engine.letters).view(), load_task("int-mult")
    keys, text = matrices(view, LIMITED.kinds), anchor_blocks(view)

    def found(growth: float | None) -> Report:
        budget = Budget(LIMITED.max_removed, growth=growth)
        problem = Problem(view, task, engine.svds, keys, budget, limit=LIMIT, text=text)
        return search(problem, task, "paper", paper, evidence=Evidence(control_draws=2, test_limit=20))

    report = found(LIMITED.growth)
    assert len(report.mask) < len(found(None).mask)
    (told,) = commanded("search, limited")
    assert told["settings"]["max_growth"] == LIMITED.growth
    assert load_mask(Path(told["out"])).removed == report.mask.removed
    figures = report.comparison.masked
    start = f"{len(report.mask)} removed: accuracy {figures.accuracy}, loss {figures.mean_loss.value}, "
    assert printed["search, limited"].startswith(start)


@pytest.mark.parametrize(
    ("end", "gain", "head", "answer"), [("", 0.0, 3, ANSWER), (SOFTER, GAIN, None, None), (", unpruned", None, 3, None)]
)
def test_a_prompt(
    engine: Engine, printed: dict[str, str], commanded: Any, end: str, gain: float | None, head: int | None, answer: Any
) -> None:
    empty = engine.first.without_all()
    mask = empty if gain is None else engine.first.scaled(gain)
    around, tokenizer = engine.task.around, engine.view.model.tokenizer
    readings = []
    for one in (empty, mask):
        apply(engine.view, one, engine.svds)
        readings.append(read_prompt(engine.view, PROMPT, around))
    found, wrote = Contrast(*readings), written(engine.view, mask, engine.svds, PROMPT, around)
    text, (report,) = printed[f"activations{end}"], commanded(f"activations{end}")
    assert (report["removed"], report["gain"]) == (len(mask), gain)
    for name, side, reading in zip(("unpruned", "with the mask"), ("baseline", "masked"), readings, strict=True):
        top = [(tokenizer.decode([token]), p) for token, p in reading.top(5)]
        assert f"{name} {top}" in text
        assert [(one["text"], one["probability"]) for one in report["next"][side]] == top
        patterns = reading.attention[0] if head is None else reading.attention[0][head]
        assert f": {patterns.tolist()}" in text
        shown = [one[side] for one in report["attention"]]
        assert shown == (patterns.tolist() if head is None else [patterns.tolist()])
    moved, changes = found.head_changes().tolist(), found.residual_change().tolist()
    assert f"attention moved, per layer and head: {moved}" in text
    assert f"change of the residual stream: {changes}" in text
    assert f"first layer that differs: {found.first_changed_layer()}" in text
    assert (report["head_changes"], report["residual_change"]) == (moved, changes)
    assert report["first_changed_layer"] == found.first_changed_layer()
    if answer is not None:
        assert report["lens"][0]["text"].strip() == answer.strip()
    assert {one["id"] for one in report["lens"]} >= {token for one in readings for token, _ in one.top(5)}
    for one in report["lens"]:
        before, after = (answer_lens(reading, [one["id"]]) for reading in readings)
        assert (one["baseline"], one["masked"]) == (before, after)
        assert f"logit lens of {one['text']!r} {before} {after}" in text
    assert len(report["written"]) == len(mask)
    for one, place in zip(report["written"], wrote.by_change(), strict=True):
        before, after = wrote.before[place].tolist(), wrote.after[place].tolist()
        assert (one["baseline"], one["masked"]) == (before, after)
        assert f"{one['matrix']} {one['index']} wrote {before}, now {after}" in text


def test_two_models(engine: Engine, printed: dict[str, str], commanded: Any) -> None:
    other = load(str(engine.tuned)).view()
    (report,) = commanded("against")
    for key, one in zip(KEYS, report["against"]["matrices"], strict=True):
        found = compare_matrix(engine.view, other, key, engine.svds)
        overlap = found.overlap(5)
        sides = overlap.left.similarity, overlap.right.similarity
        assert (one["difference_size"], one["difference"]["energy_counts"]) == (
            found.size,
            list(found.rank.energy_counts),
        )
        assert (one["left"]["similarity"], one["right"]["similarity"]) == sides
        assert (
            f"{key}: size of the difference {found.size}, energy counts {found.rank.energy_counts}"
            in (printed["against"])
        )
        assert f"{key}: overlap u {sides[0]}, v {sides[1]}; " in printed["against"]


# ---- what they say


def words(text: str | None) -> list[str]:
    assert text is not None
    return shlex.split(text)


def test_the_usual_view() -> None:
    start = ["eigenprune", "eval", "--model", "bundled", "--task", "int-mult"]
    command = recipes.evaluate(PLAIN).command
    assert words(command) == [*start, "--mask", str(MASK), "--split", "validation", "--json"]


def test_everything_that_is_not_usual_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_DTYPE", "float64")
    settings.cache_clear()
    task = load_task("int-mult", 3, shots=2, template="{i}\n* {j} =")
    given = replace(PLAIN, model="a b", basis="folded", task=task, limit=16, data=Path("/d d"), per_head=False)
    command = " ".join(words(recipes.evaluate(given).command))
    for part in ("--model a b", "--basis folded", "--dtype float64", "--limit 16", "--seed 3", "--shots 2"):
        assert part in command
    assert "--data /d d" in command
    assert "--template {i}\\n* {j} =" in command
    damaged = recipes.own_damage(given)
    assert damaged is not None
    assert "--template {i}\\n* {j} =" in " ".join(words(damaged.command))
    assert "template='{i}\\n* {j} ='" in damaged.python
    python = recipes.ranking(given).python
    for part in (
        "load('a b', basis='folded', dtype='float64')",
        "seed=3, shots=2, template='{i}\\n* {j} ='",
        "per_head=False",
        "mode='freeze', seed=3",
    ):
        assert part in python
    assert "--stacked" in words(recipes.ranking(given).command)


def test_what_counts_as_right_is_said() -> None:
    given = replace(PLAIN, task=load_task("greater-than", metric="exact"))
    for recipe in (recipes.evaluate(given), recipes.ranking(given), recipes.own_damage(given)):
        assert recipe is not None
        copied = words(recipe.command)
        assert copied[copied.index("--metric") + 1] == "exact"
        assert "load_task('greater-than', metric='exact')" in recipe.python
    usual = recipes.evaluate(replace(PLAIN, task=load_task("greater-than")))
    assert "metric" not in " ".join([*words(usual.command), usual.python])


def test_every_python_is_python_and_formatted(engine: Engine) -> None:
    for recipe in every(engine).values():
        tree = ast.parse(recipe.python)
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert imported <= used, (recipe.title, imported - used)


def test_a_task_from_a_file_is_known() -> None:
    assert not is_file_task(PLAIN.task)
    assert is_file_task(replace(PLAIN.task, name="own.jsonl"))


@pytest.mark.parametrize("template", [r"{i}\n* {j} =", "{i}\n* {j} =", "C:\\{i} \\\\n\n{j}", "'{i}' \"{j}\" $x"])
def test_a_copied_command_asks_with_the_very_template(template: str) -> None:
    copied = words(recipes.evaluate(replace(PLAIN, task=load_task("int-mult", template=template))).command)
    typed = copied[copied.index("--template") + 1]
    assert TaskChoice(task="int-mult", template=typed).open("test", None).template == template
