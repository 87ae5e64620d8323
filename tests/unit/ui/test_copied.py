"""Requests of all pages: run as a command and as Python, they give the numbers of the engine that the pages call."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from explorer.actions import REQUESTS, ModelChoice, Request, TaskChoice, TasksChoice
from explorer.attribution import Options, Scores, score
from explorer.attribution import interactions as attribution
from explorer.attribution.exact import Value, exact_effects
from explorer.core.config import settings
from explorer.core.keys import CircuitKey, Kind, MatrixKey, parse_key
from explorer.experiments.direction import Direction
from explorer.experiments.study import StudyOptions, study_scorers
from explorer.experiments.transfer import refreeze, transfer
from explorer.export.edit import zeroed
from explorer.masks.activations import Contrast, answer_lens, read_prompt, written
from explorer.masks.apply import apply, empty_mask
from explorer.masks.damage import damage
from explorer.masks.head_split import HeadPlace, first_tokens, head_split
from explorer.masks.mask import Mask, load_mask
from explorer.masks.replies import replies
from explorer.masks.sets import overlaps, vote
from explorer.measure import readout
from explorer.measure.batches import batches
from explorer.measure.context_store import default_contexts
from explorer.measure.corpora import TOKENS, task_corpus
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.generation import Decoding
from explorer.measure.perplexity import own_text
from explorer.measure.sampling import draw_sample
from explorer.measure.slices import slices
from explorer.models import Model, View, ViewPool, load
from explorer.models.matrices import matrices
from explorer.search import lowest, mask_of
from explorer.search.anchor import anchor_blocks
from explorer.search.conductor import Elsewhere, conduct
from explorer.search.evidence.choice import EvidenceChoice
from explorer.search.given import given_request, given_search
from explorer.search.options import StrategyOptions
from explorer.search.outcome import Budget
from explorer.search.paper import paper
from explorer.search.problem import Problem
from explorer.search.report import Evidence, Report, search
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache, default_cache
from explorer.spectra.circuits import decompose_circuit
from explorer.spectra.model_diff import compare_matrix
from explorer.spectra.training import courses
from explorer.tasks import AS_USUAL, Cases, Example, Task, load_task
from explorer.ui.activations import why
from explorer.ui.bench import inside, workbench
from explorer.ui.direction.parts import Looked
from explorer.ui.masks import actions, compare, folders, outcomes
from explorer.ui.prune import interactions, removing, sliced
from explorer.ui.scores import agreement
from explorer.ui.search import form
from explorer.ui.session import requests
from explorer.ui.session.requests import Setting
from explorer.ui.session.session import Bench
from explorer.ui.shell import share
from explorer.ui.spectra import readouts
from explorer.ui.try_it.form import Asked
from tests import tiny
from tests.commands import run as run_command
from tests.siblings import tuned_bundled

ROOT = Path(__file__).resolve().parents[3]
MASK = Path("/my masks/it's.mask.json")
PLACES = (("L0.Q.H3", 0), ("L0.Q.H3", 3), ("L2.OUT", 1))
VALUES: tuple[Value, ...] = tuple((MatrixKey.parse(key), index) for key, index in PLACES)
CARD = (MatrixKey.parse("L1.V.H2"), 5)
KEYS = [parse_key(one) for one in ("L0.K.H1", "L1.OUT", "L0.QK.H2")]
COUNTS, EXAMPLES, DRAWS, LIMIT = [1, 4], 16, 3, 24
ASKED = SearchRequest("paper", (Kind.Q,), (0, 1), True, "freeze", "gradient", LIMIT, 4, None, 0, 2, 20)
RESEEDED = replace(ASKED, strategy="random-search", seed=5)  # than that of the splits
PER_KIND = replace(ASKED, kinds=(Kind.Q, Kind.K), options=StrategyOptions(per_kind=True))
LIMITED = replace(ASKED, kinds=(Kind.Q, Kind.K), layers=None, max_removed=16, growth=0.01)
LETTERS_TASK = load_task("int-mult", cases=Cases("published"))  # on which that limit leaves less than no limit
ANOTHER_WAY = load_task("int-mult", template="{j} x {i} =")
PROMPT, ANSWER = "3 x 4 =", " 12"
SPOKEN = Asked((PROMPT, "5 x 7 ="), (), AS_USUAL, Decoding(6, 0.9, 9, top_p=0.9, seed=3))
GAIN, SOFTER = 0.25, ", softer"  # what stays of the values, and the names of requests of a mask with this gain


def bench_of(model: Model, task: Task, mask: Mask | None = None) -> Bench:
    """A session's choices: the usual ones, but for the task and the mask."""
    return Bench(
        model=model, views=ViewPool(model), svds=default_cache(), task=task, mask=mask or empty_mask(model),
        kinds=(Kind.Q, Kind.K), per_head=True, scorer="gradient", score_limit=None, split="validation",
        eval_limit=None,
    )  # fmt: skip


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
        self.setting = self.about(self.first)
        self.letters = str(tiny.save_letters(folder / "letters"))
        self.soft = self.first.scaled(GAIN)
        self.soft.save(folder / "softer.mask.json")
        self.tuned = tuned_bundled(folder / "tuned")
        self.superglue = _copa(folder / "super glue")

    def about(self, mask: Mask, task: Task | None = None, **further: Any) -> Setting:
        """What requests are about; masks are in this test's files."""
        bench = bench_of(self.view.model, task or self.task, mask)
        given = requests.by_name(replace(bench, eval_limit=LIMIT, score_limit=LIMIT, **further))
        folder = self.files[0].parent
        paths = {self.first.digest: self.files[0], self.second.digest: self.files[1]}
        return replace(given, file=lambda mask: paths.get(mask.digest, folder / "softer.mask.json"))

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


def every(engine: Engine) -> dict[str, list[Request]]:
    """Requests of each action of a page, and of its variants."""
    given, soft = engine.setting, engine.about(engine.soft)
    bare = engine.about(engine.first.without_all())
    first, both = engine.first, [engine.first, engine.second]
    prompt, other = Example(PROMPT, ""), engine.about(engine.first, ANOTHER_WAY)
    files = [given.file(mask) for mask in both]
    tuned = ModelChoice(str(engine.tuned))
    sums, copa = TasksChoice(task=("int-sum", "int-mult")), TasksChoice(task=("copa", "int-sum"), data=engine.superglue)
    letters = replace(bare, model=ModelChoice(engine.letters), task=requests.task_choice(LETTERS_TASK))
    found: dict[str, Request | list[Request] | None] = {
        "activations": inside.request(given, prompt, (0, 3), answer=ANSWER),
        "activations, softer": inside.request(soft, prompt, (0, None), answer=None),
        "activations, unpruned": inside.request(bare, prompt, (0, 3), answer=None),
        "against": requests.spectra(bare, KEYS, against=str(engine.tuned), overlap=5),
        "over": requests.spectra(bare, KEYS, over=(str(engine.tuned),), overlap=5),
        "attention": _why(first).request(given),
        "attention, of products": replace(_why(first.without_all()), directions="product", toward="").request(bare),
        "combine": actions.request("majority", [*files, files[0]]),
        "combine, any": actions.request("union", files),
        "combine, all": actions.request("intersection", files),
        "combine, less": actions.request("second without first", files),
        "controls": requests.evaluate(given, first, DRAWS),
        "controls, softer": requests.evaluate(soft, engine.soft, DRAWS),
        "curve": removing.request(bare, COUNTS, EXAMPLES),
        "curve, softer": removing.request(soft, COUNTS, EXAMPLES),
        "damage": requests.damage(given, first, sums, limit=LIMIT, text=False),
        "damage, from a folder": requests.damage(given, first, copa, limit=LIMIT, text=False),
        "claim": requests.evidence(
            given, first, EvidenceChoice(nulls=("mean-only",), baselines=("shots",), parts=True), controls=2
        ),
        "direction": Looked(bare.bench, *CARD).request(bare, ["int-sum"]),
        "effects": requests.effects(bare, VALUES, first.without_all()),
        "effects, all": requests.all_effects(_few(engine), first.without_all()),
        "effects, at the mask": requests.effects(given, VALUES, first),
        "effects, at the mask, softer": requests.effects(soft, VALUES, engine.soft),
        "evaluate": requests.evaluate(given, first),
        "evaluate, softer": requests.evaluate(soft, engine.soft),
        "evaluate, unpruned": requests.evaluate(bare, first.without_all()),
        "generate": SPOKEN.request(given),
        "generate, unpruned": SPOKEN.request(bare),
        "export": folders.request(given, first, Path("an export"), format="checkpoint", zero=True),
        "interactions": interactions.request(bare, first, 8),
        "lowest": workbench.request(bare, 4),
        "lowest, softer": workbench.request(soft, 4),
        "own damage": requests.damage(given, first, given.tasks, limit=LIMIT),
        "own damage, in other words": requests.damage(other, first, other.tasks, limit=LIMIT),
        "pair": compare.pair(bare, *both),
        "pair, with the unpruned model": compare.pair(bare, first, first.without_all()),
        "ranking": requests.score(bare, bootstrap=20),
        "ranking, every kind at the mask": requests.score(given, every=True, mask=first),
        "readout": readouts.request(bare, KEYS[0], 2),
        "readout, of a product": readouts.request(bare, KEYS[2], 1),
        "search": form.request(bare, ASKED),
        "search, by another seed": form.request(bare, RESEEDED),
        "search, with an option": form.request(bare, PER_KIND),
        "search, limited": form.request(letters, LIMITED),
        "slices": sliced.request(given, "i"),
        "slices, unpruned": sliced.request(bare, "prompt~1"),
        "spectra": requests.spectra(bare, KEYS),
        "study": agreement.study(_few(engine)),
        "transfer": outcomes.transfer_request(other, first, sibling=False),
        "transfer, to a sibling": outcomes.transfer_request(replace(bare, model=tuned), first, sibling=True),
    }
    return {name: one if isinstance(one, list) else [one] for name, one in found.items() if one is not None}


def _why(mask: Mask) -> why.Question:
    return why.Question(Example(PROMPT, ""), HeadPlace(0, 3, 4, key=1), "head", ANSWER, mask)


def _few(engine: Engine) -> Setting:
    """A setting of which a study takes little time."""
    given = engine.setting
    return replace(given, bench=replace(given.bench, kinds=(Kind.Q,), score_limit=8))


def test_every_request_that_a_page_makes_is_run_here(engine: Engine) -> None:
    kinds = {kind.__name__: kind for kind in REQUESTS}
    made = {
        alias.name
        for path in ROOT.glob("explorer/ui/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "explorer.actions"
        for alias in node.names
    }
    assert made & set(kinds) == {type(one).__name__ for listed in every(engine).values() for one in listed}


@pytest.fixture(scope="module")
def printed(engine: Engine, own_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the Python of each request prints; each is a script of its own, all are run by one process to save time."""
    folder = tmp_path_factory.mktemp("scripts")
    asked = [(name, request) for name, listed in every(engine).items() for request in listed]
    for place, (_, request) in enumerate(asked):
        (folder / f"{place}.py").write_text(request.as_python())
    lines = ["import runpy", *(f"runpy.run_path('{i}.py'); print('-----')" for i in range(len(asked)))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, timeout=280, check=False,
        env=_environment(own_folders),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, list[Any]] = {}
    for (name, _), text in zip(asked, done.stdout.split("-----\n"), strict=False):
        found.setdefault(name, []).append(json.loads(text))
    return found


def _environment(folders: Path) -> dict[str, str]:
    own = {"EIGENPRUNE_CACHE": str(folders / "cache"), "EIGENPRUNE_WORKSPACE": str(folders / "workspace")}
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own}


@pytest.fixture
def told(engine: Engine, printed: dict[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the commands of requests by name, in a folder of its own; gives what each printed, as its Python did."""
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> list[dict[str, Any]]:
        found = []
        for request, own in zip(every(engine)[name], printed[name], strict=True):
            first, *words = shlex.split(request.as_command("--json"))
            assert first == "eigenprune"
            result = run_command(*words)
            assert result.exit_code == 0, result.stderr
            found.append(json.loads(result.stdout))
            assert timeless(own) == timeless(found[-1])
        return found

    return run


def timeless(report: dict[str, Any]) -> str:
    """A report without the time that it took; as text, which is equal where numbers are undefined, too."""
    return json.dumps({name: value for name, value in report.items() if name not in ("seconds", "forwards")})


# The gain of the mask at hand, and what the names of its requests end with.
GAINS = pytest.mark.parametrize(("gain", "end"), [(0.0, ""), (GAIN, SOFTER)])


@pytest.mark.slow
@GAINS
def test_accuracy_and_loss(engine: Engine, told: Any, gain: float, end: str) -> None:
    masked, unpruned = engine.evaluate(engine.first.scaled(gain)), engine.evaluate(engine.first.without_all())
    (report,) = told(f"evaluate{end}")
    assert (report["accuracy"], report["loss"]) == (masked.accuracy, masked.mean_loss.value)
    assert report["baseline"]["loss"] == unpruned.mean_loss.value
    (report,) = told("evaluate, unpruned")
    assert report["loss"] == unpruned.mean_loss.value


@pytest.mark.slow
def test_an_export_without_frozen_means(engine: Engine, told: Any) -> None:
    (report,) = told("export")
    mask = zeroed(engine.first)
    expected = {}
    for name, one in (("masked", mask), ("baseline", mask.without_all())):
        apply(engine.view, one, engine.svds)
        expected[name] = evaluate(engine.view, engine.task, "test", limit=LIMIT).mean_loss.value
    apply(engine.view, engine.first.without_all(), engine.svds)
    (figures,) = report["tasks"]
    assert {name: figures[name]["loss"] for name in expected} == expected
    assert report["checked"]["difference"] <= report["checked"]["limit"]


@pytest.mark.slow
def test_what_a_claim_needs(engine: Engine, told: Any) -> None:
    choice = EvidenceChoice(nulls=("mean-only",), baselines=("shots",), parts=True)
    request = given_request(engine.first, choice, limit=LIMIT, controls=2, test_limit=LIMIT)
    text = Elsewhere(text=own_text(engine.view.model.tokenizer))
    own = conduct(
        request, engine.view, engine.task, engine.svds, chosen=given_search(engine.first), elsewhere=text
    ).as_dict()  # fmt: skip
    (report,) = told("claim")
    for name in ("test", "baseline", "comparison", "evidence", "controls", "damage"):
        assert report[name] == json.loads(json.dumps(own[name])), name


@GAINS
def test_random_masks(engine: Engine, told: Any, gain: float, end: str) -> None:
    ranks = {key: len(one.s) for key, one in engine.scores.matrices.items()}
    lots = [Random(seed) for seed in range(DRAWS)]
    places = [
        [(key, index) for key, of in engine.first.by_matrix.items() for index in one.sample(range(ranks[key]), len(of))]
        for one in lots
    ]
    drawn = [[engine.scores.removed(*place) for place in one] for one in places]
    expected = [engine.evaluate(mask_of(engine.view, engine.scores, one, gain=gain)) for one in drawn]
    (report,) = told(f"controls{end}")
    assert report["controls"]["accuracy"] == [one.accuracy for one in expected]
    assert report["controls"]["loss"] == [one.mean_loss.value for one in expected]


@GAINS
def test_the_curve_along_the_ranking(engine: Engine, told: Any, gain: float, end: str) -> None:
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
    (report,) = told(f"curve{end}")
    assert [one["removed"] for one in report["stops"]] == COUNTS
    assert [one["loss_change"]["value"] for one in report["stops"]] == [one.loss_change.value for one in found]
    assert [one["accuracy"] for one in report["stops"]] == [one.masked.accuracy for one in found]
    assert [one["predicted_change"] for one in report["stops"]] == predicted
    assert report["baseline"]["loss"] == sample.baseline.mean_loss.value


def test_attention(engine: Engine, told: Any) -> None:
    toward = first_tokens(engine.view, PROMPT, [ANSWER])
    for name, mask, options in (
        ("attention", engine.first, {"toward": toward}),
        ("attention, of products", engine.first.without_all(), {"directions": "product"}),
    ):
        place = HeadPlace(0, 3, 4, key=1)
        found = head_split(engine.view, mask, engine.svds, PROMPT, place=place, **options)
        (report,) = told(name)
        assert report["score"]["here"] == found.score.here.tolist()
        assert report["moved"]["elsewhere"] == found.moved.elsewhere.tolist()
    apply(engine.view, engine.first.without_all(), engine.svds)


def test_interactions(engine: Engine, told: Any) -> None:
    cut = batches(engine.view, engine.task, engine.task.train[:8])
    found = attribution.interactions(engine.view, cut, engine.svds, removed=engine.first.removed)
    (report,) = told("interactions")
    assert report["together"] == list(found.together)
    assert [one["interaction"] for one in report["pairs"]] == [one.interaction for one in found.pairs]
    assert [one["share"] for one in report["values"]] == [one.share for one in found.values]


def test_damage(engine: Engine, told: Any) -> None:
    for name, tasks in (
        ("damage", [load_task("int-sum"), load_task("int-mult")]),
        ("damage, from a folder", [load_task("copa", data=engine.superglue), load_task("int-sum")]),
        ("own damage", [engine.task]),
        ("own damage, in other words", [ANOTHER_WAY]),
    ):
        found = damage(engine.view, engine.first, engine.svds, tasks, None, split="validation", limit=LIMIT)
        expected = json.loads(json.dumps(found.as_dict()))
        (report,) = told(name)
        assert (report["tasks"], report["text"]) == (expected["tasks"], None)


def test_two_masks(engine: Engine, told: Any) -> None:
    found = [engine.evaluate(mask) for mask in (engine.first, engine.second)]
    both = Comparison(found[1], found[0])
    shared, beside = told("pair")
    assert [beside["baseline"]["loss"], beside["loss"]] == [each.mean_loss.value for each in found]
    assert [beside["baseline"]["accuracy"], beside["accuracy"]] == [each.accuracy for each in found]
    assert (beside["baseline"]["mask_digest"], beside["mask_digest"]) == (engine.first.digest, engine.second.digest)
    assert (beside["baseline"]["removed"], beside["removed"]) == (4, 7)
    assert beside["loss_change_interval"] == list(both.loss_interval())
    assert beside["accuracy_test"]["p"] == both.accuracy_test.p
    sets = overlaps(engine.first, engine.second)
    for side in ("only_first", "only_second", "both"):
        assert [entry[side] for entry in shared["matrices"]] == [getattr(each, side) for each in sets.values()]
    unpruned = engine.evaluate(engine.first.without_all())
    (beside,) = told("pair, with the unpruned model")
    assert [beside["baseline"]["loss"], beside["loss"]] == [found[0].mean_loss.value, unpruned.mean_loss.value]
    assert (beside["baseline"]["removed"], beside["removed"], beside["mask_digest"]) == (4, 0, None)


def test_transferred_masks(engine: Engine, told: Any) -> None:
    sibling, svds = load(str(engine.tuned)).view(), engine.svds
    anew = refreeze(engine.view, engine.first, svds, ANOTHER_WAY, limit=LIMIT)
    carried = transfer(sibling, engine.first, svds, engine.task, limit=LIMIT)
    for name, view, task, made in (
        ("transfer", engine.view, ANOTHER_WAY, anew),
        ("transfer, to a sibling", sibling, engine.task, carried),
    ):
        found = damage(view, made, svds, [task], split="validation", limit=LIMIT)
        expected = json.loads(json.dumps(found.as_dict()))
        (report,) = told(name)
        assert report["tasks"] == expected["tasks"]
        assert load_mask(Path(report["out"])) == made


def test_combined_masks(engine: Engine, told: Any) -> None:
    expected = {
        "combine": vote([engine.first, engine.second, engine.first], 2),
        "combine, any": vote([engine.first, engine.second], 1),
        "combine, all": vote([engine.first, engine.second], 2),
        "combine, less": engine.second.difference(engine.first),
    }
    for name, mask in expected.items():
        (report,) = told(name)
        assert report["mask"]["removed"] == len(mask)
        assert load_mask(Path(report["out"])).removed == mask.removed


def test_the_ranking(engine: Engine, told: Any) -> None:
    for name, scores in (
        ("ranking", engine.score((Kind.Q, Kind.K), options=Options(bootstrap=20))),
        ("ranking, every kind at the mask", engine.score(None, mask=engine.first)),
    ):
        ranked = scores.ranking()
        (report,) = told(name)
        assert [(one["matrix"], one["index"], one["score"]) for one in report["values"]] == [
            (str(key), index, value) for value, key, index in ranked
        ]
        _, key, index = ranked[0]
        stderr = scores.matrices[key].stderr
        if stderr is not None:
            assert report["values"][0]["stderr"] == float(stderr[index])


@GAINS
def test_the_lowest_values(engine: Engine, told: Any, gain: float, end: str) -> None:
    (report,) = told(f"lowest{end}")
    mask = engine.first.scaled(gain)
    assert load_mask(Path(report["out"])).digest == mask.digest == report["mask_digest"]
    assert (report["removed"], report["gain"]) == (4, gain)
    expected = [(one.matrix, one.index, one.sigma, one.c) for one in mask.removed]
    assert [(one["matrix"], one["index"], one["sigma"], one["c"]) for one in report["values"]] == expected


def test_exact_effects(engine: Engine, told: Any) -> None:
    cut = batches(engine.view, engine.task, engine.task.split("train", LIMIT))
    softer = engine.first.scaled(GAIN)
    for name, mask in (
        ("effects", None),
        ("effects, at the mask", engine.first),
        (f"effects, at the mask{SOFTER}", softer),
    ):
        found = exact_effects(engine.view, cut, engine.svds, VALUES, mask=mask).values
        (report,) = told(name)
        assert [(one["matrix"], one["index"]) for one in report["values"]] == [(str(key), i) for key, i in VALUES]
        assert [(one["exact"], one["stderr"]) for one in report["values"]] == [
            (one.value, one.stderr) for one in found.values()
        ]


def test_all_exact_effects(engine: Engine, told: Any) -> None:
    cut = batches(engine.view, engine.task, engine.task.split("train", 8))
    keys = matrices(engine.view, (Kind.Q,))
    values = [(key, index) for key in keys for index in range(engine.svds.get(engine.view, key).rank)]
    found = exact_effects(engine.view, cut, engine.svds, values).values
    (report,) = told("effects, all")
    assert [(one["matrix"], one["index"]) for one in report["values"]] == [(str(key), i) for key, i in found]
    assert [one["exact"] for one in report["values"]] == [one.value for one in found.values()]


@pytest.mark.slow
def test_the_study(engine: Engine, told: Any) -> None:
    keys = matrices(engine.view, (Kind.Q,))
    options = StudyOptions(limit=8)
    study = study_scorers(engine.view, engine.task, engine.svds, keys, scorers=["gradient"], options=options)
    (report,) = told("study")
    assert [one["spearman"] for one in report["trust"]] == [one.spearman for one in study.trust.values()]


def test_spectra(engine: Engine, told: Any) -> None:
    (report,) = told("spectra")
    for key, entry in zip(KEYS, report["spectra"], strict=True):
        found = (
            decompose_circuit(engine.view, key) if isinstance(key, CircuitKey) else engine.svds.get(engine.view, key)
        )
        assert (entry["matrix"], entry["singular_values"]) == (str(key), found.s.tolist())


def test_read_outs(engine: Engine, told: Any) -> None:
    key = KEYS[0]
    assert isinstance(key, MatrixKey)
    ends = readout.readouts(engine.view, key, engine.svds.get(engine.view, key), [2], readouts.TOKENS)
    cut = batches(engine.view, engine.task, engine.task.split("train", LIMIT))
    effect = exact_effects(engine.view, cut, engine.svds, [(key, 2)]).values[key, 2]
    (report,) = told("readout")
    (value,) = report["values"]
    assert value["exact"]["value"] == effect.value
    for one, end in zip(ends, value["ends"], strict=True):
        for side, tokens in (("plus", one.plus), ("minus", one.minus)):
            expected = [(token.text, token.value) for token in tokens]
            assert [(token["text"], token["value"]) for token in end[side]] == expected
    (product,) = told("readout, of a product")
    assert product["values"][0]["exact"] is None


def test_the_card_of_a_direction(engine: Engine, told: Any) -> None:
    """The parts that the page shows, each from its own job there."""
    (key, index), task = CARD, engine.task
    direction = Direction(engine.view, engine.svds, key, index=index)
    scored = direction.score(task, LIMIT)
    (report,) = told("direction")
    corpus = task_corpus(engine.view.model, task, limit=LIMIT, tokens=TOKENS)
    found = {
        "place": direction.place(),
        "score": scored,
        "effects": direction.effects(task, [load_task("int-sum")], LIMIT),
        "flips": direction.flips(task, scored.c, "validation", LIMIT),
        "contexts": [direction.contexts(corpus, store=default_contexts(pytest.fail))],
        "similar": direction.similar(),
    }
    for name, part in found.items():
        plain = [one.as_dict() for one in part] if isinstance(part, list | tuple) else part.as_dict()
        assert report[name] == json.loads(json.dumps(plain)), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    [("search", ASKED), ("search, by another seed", RESEEDED), ("search, with an option", PER_KIND)],
)
def test_a_search(name: str, asked: SearchRequest, engine: Engine, told: Any) -> None:
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
    (own,) = told(name)
    assert (own["removed"], own["test"]["loss"]) == (len(report.mask), found.mean_loss.value)
    assert (own["test"]["accuracy"], own["test"]["n"]) == (found.accuracy, found.n)
    assert load_mask(Path(own["out"])).removed == report.mask.removed


@pytest.mark.slow
def test_a_search_that_limits_the_perplexity(engine: Engine, told: Any) -> None:
    view, task = load(engine.letters).view(), LETTERS_TASK
    keys, text = matrices(view, LIMITED.kinds), anchor_blocks(view)

    def found(growth: float | None) -> Report:
        budget = Budget(LIMITED.max_removed, growth=growth)
        problem = Problem(view, task, engine.svds, keys, budget, limit=LIMIT, text=text)
        return search(problem, task, "paper", paper, evidence=Evidence(control_draws=2, test_limit=20))

    report = found(LIMITED.growth)
    assert len(report.mask) < len(found(None).mask)
    (own,) = told("search, limited")
    assert own["settings"]["max_growth"] == LIMITED.growth
    assert load_mask(Path(own["out"])).removed == report.mask.removed
    figures = report.comparison.masked
    assert (own["removed"], own["test"]["accuracy"], own["test"]["loss"]) == (
        len(report.mask), figures.accuracy, figures.mean_loss.value,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("end", "gain", "head", "answer"), [("", 0.0, 3, ANSWER), (SOFTER, GAIN, None, None), (", unpruned", None, 3, None)]
)
def test_a_prompt(engine: Engine, told: Any, end: str, gain: float | None, head: int | None, answer: Any) -> None:
    empty = engine.first.without_all()
    mask = empty if gain is None else engine.first.scaled(gain)
    around, tokenizer = engine.task.around, engine.view.model.tokenizer
    readings = []
    for one in (empty, mask):
        apply(engine.view, one, engine.svds)
        readings.append(read_prompt(engine.view, PROMPT, around))
    found, wrote = Contrast(*readings), written(engine.view, mask, engine.svds, PROMPT, around)
    (report,) = told(f"activations{end}")
    assert (report["removed"], report["gain"]) == (len(mask), gain)
    for side, reading in zip(("baseline", "masked"), readings, strict=True):
        top = [(tokenizer.decode([token]), p) for token, p in reading.top(inside.TOP)]
        assert [(one["text"], one["probability"]) for one in report["next"][side]] == top
        patterns = reading.attention[0] if head is None else reading.attention[0][head]
        shown = [one[side] for one in report["attention"]]
        assert shown == (patterns.tolist() if head is None else [patterns.tolist()])
    moved, changes = found.head_changes().tolist(), found.residual_change().tolist()
    assert (report["head_changes"], report["residual_change"]) == (moved, changes)
    assert report["first_changed_layer"] == found.first_changed_layer()
    if answer is not None:
        assert report["lens"][0]["text"].strip() == answer.strip()
    assert {one["id"] for one in report["lens"]} >= {token for one in readings for token, _ in one.top(inside.TOP)}
    for one in report["lens"]:
        before, after = (answer_lens(reading, [one["id"]]) for reading in readings)
        assert (one["baseline"], one["masked"]) == (before, after)
    assert len(report["written"]) == len(mask)
    for one, place in zip(report["written"], wrote.by_change(), strict=True):
        before, after = wrote.before[place].tolist(), wrote.after[place].tolist()
        assert (one["baseline"], one["masked"]) == (before, after)
        assert (one["matrix"], one["index"]) == (wrote.values[place].matrix, wrote.values[place].index)


def test_what_both_sides_say(engine: Engine, told: Any) -> None:
    for name, mask in (("generate", engine.first), ("generate, unpruned", engine.first.without_all())):
        views = engine.view.model.view(), engine.view
        found = replies(views, mask, engine.svds, SPOKEN.prompts, decoding=SPOKEN.decoding)
        (report,) = told(name)
        assert report["replies"] == json.loads(json.dumps([one.as_dict() for one in found]))
        assert report["removed"] == len(mask)
    apply(engine.view, engine.first.without_all(), engine.svds)


def test_slices(engine: Engine, told: Any) -> None:
    examples, unpruned = engine.task.split("validation", LIMIT), engine.evaluate(engine.first.without_all())
    for name, masked, by in (
        ("slices", engine.evaluate(engine.first), "i"),
        ("slices, unpruned", unpruned, "prompt~1"),
    ):
        found = slices(Comparison(masked, unpruned), examples, by)
        (report,) = told(name)
        assert report["slices"] == json.loads(json.dumps([one.as_dict() for one in found]))


def test_two_models(engine: Engine, told: Any) -> None:
    other = load(str(engine.tuned)).view()
    (report,) = told("against")
    for key, one in zip(KEYS, report["against"]["matrices"], strict=True):
        found = compare_matrix(engine.view, other, key, engine.svds)
        overlap = found.overlap(5)
        sides = overlap.left.similarity, overlap.right.similarity
        assert (one["difference_size"], one["difference"]["energy_counts"]) == (
            found.size,
            list(found.rank.energy_counts),
        )
        assert (one["left"]["similarity"], one["right"]["similarity"]) == sides
        chances = one["left"]["chance_similarity"], one["right"]["chance_similarity"]
        assert chances == (overlap.left.chance_similarity, overlap.right.chance_similarity)


def test_training(engine: Engine, told: Any) -> None:
    (report,) = told("over")
    found = courses(engine.view, [str(engine.tuned)], KEYS, svds=engine.svds, k=5)
    for one, course in zip(report["over"], found, strict=True):
        assert one["matrix"] == str(course.key)
        assert [stage["singular_values"] for stage in one["stages"]] == [stage.s.tolist() for stage in course.stages]
        assert one["stages"][0]["with_last"]["left"] == pytest.approx(course.with_last[0].left)


# ---- what they say


def words(request: Request) -> list[str]:
    return shlex.split(request.as_command("--json"))


@pytest.fixture
def plain(bundled: Model) -> Setting:
    """The usual view, with a mask's name that a shell has to quote."""
    return replace(requests.by_name(bench_of(bundled, load_task("int-mult"))), file=lambda mask: MASK)


@pytest.fixture
def mask(engine: Engine) -> Mask:
    return engine.first


def test_the_usual_view(plain: Setting, mask: Mask) -> None:
    start = ["eigenprune", "eval", "--model", "bundled", "--task", "int-mult"]
    command = words(requests.evaluate(plain, mask))
    assert command == [*start, "--mask", str(MASK), "--split", "validation", "--json"]


def test_everything_that_is_not_usual_is_said(bundled: Model, mask: Mask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_DTYPE", "float64")
    settings.cache_clear()
    task = load_task("int-mult", 3, shots=2, template="{i}\n* {j} =")
    bench = replace(bench_of(bundled, task), eval_limit=16, per_head=False)
    given = requests.by_name(bench, Path("/d d"))
    given = replace(given, model=replace(given.model, model="a b", basis="folded"), file=lambda mask: MASK)
    command = " ".join(words(requests.evaluate(given, mask)))
    for part in ("--model a b", "--basis folded", "--dtype float64", "--limit 16", "--seed 3", "--shots 2"):
        assert part in command
    assert "--data /d d" in command
    assert "--template {i}\\n* {j} =" in command
    damaged = requests.damage(given, mask, given.tasks, limit=16)
    assert damaged is not None
    assert "--template {i}\\n* {j} =" in " ".join(words(damaged))
    assert r"template='{i}\\n* {j} ='" in damaged.as_python()
    ranking = requests.score(given)
    for part in (
        "ModelChoice(model='a b', dtype='float64', basis='folded')",
        "shots=2",
        r"template='{i}\\n* {j} ='",
        "seed=3",
        "stacked=True",
    ):
        assert part in ranking.as_python()
    assert "--stacked" in words(ranking)


def test_what_counts_as_right_is_said(bundled: Model, mask: Mask) -> None:
    given = requests.by_name(bench_of(bundled, load_task("greater-than", metric="exact")))
    given = replace(given, file=lambda mask: MASK)
    damaged = requests.damage(given, mask, given.tasks, limit=None)
    for request in (requests.evaluate(given, mask), requests.score(given), damaged):
        assert request is not None
        copied = words(request)
        assert copied[copied.index("--metric") + 1] == "exact"
        assert "metric='exact'" in request.as_python()
    usual = requests.evaluate(requests.by_name(bench_of(bundled, load_task("greater-than"))), None)
    assert "metric" not in " ".join([*words(usual), usual.as_python()])


def test_every_python_is_python_and_formatted(engine: Engine) -> None:
    for request in (one for listed in every(engine).values() for one in listed):
        tree = ast.parse(request.as_python())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert imported <= used, (request, imported - used)


def test_a_task_from_a_file_is_known() -> None:
    task = load_task("int-mult")
    assert not share.is_file_task(task)
    assert share.is_file_task(replace(task, name="own.jsonl"))


@pytest.mark.parametrize("template", [r"{i}\n* {j} =", "{i}\n* {j} =", "C:\\{i} \\\\n\n{j}", "'{i}' \"{j}\" $x"])
def test_a_copied_command_asks_with_the_very_template(bundled: Model, template: str) -> None:
    given = requests.by_name(bench_of(bundled, load_task("int-mult", template=template)))
    copied = words(requests.evaluate(given, None))
    typed = copied[copied.index("--template") + 1]
    assert TaskChoice(task="int-mult", template=typed).open("test", None).template == template


def test_equal_choices_are_one_job_and_others_are_not(bundled: Model, mask: Mask) -> None:
    bench = bench_of(bundled, load_task("int-mult"), mask)

    def key(bench: Bench) -> Request:
        return requests.evaluate(requests.by_contents(bench), bench.mask)

    assert key(bench) == key(replace(bench, kinds=(Kind.V,)))  # which no measurement of a mask depends on
    assert hash(key(bench)) == hash(key(replace(bench)))
    others = [
        replace(bench, task=load_task("int-mult", shots=1)),
        replace(bench, mask=mask.scaled(GAIN)),
        replace(bench, mask=mask.without_all()),
        replace(bench, split="test"),
        replace(bench, eval_limit=8),
    ]
    assert len({key(bench), *map(key, others)}) == 6
