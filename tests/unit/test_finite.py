"""A number that is not finite is never right, never chosen, never written, and says where it came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer.attribution import MatrixScores, Scores, score
from explorer.core import finite
from explorer.core.errors import NotFiniteError, SettingsError
from explorer.core.files import write_json
from explorer.core.finite import perplexity_text
from explorer.core.keys import Kind, MatrixKey
from explorer.experiments.study.trust import trust
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.measure.batches import Batch
from explorer.measure.choices import Alternatives
from explorer.measure.evaluate import evaluate
from explorer.measure.metrics import mean, outcome
from explorer.measure.overflow import origin, sentence
from explorer.measure.paired import bootstrap_interval
from explorer.measure.perplexity import Perplexity, growth
from explorer.models import Model, View, load
from explorer.models.matrices import matrices
from explorer.search import SEARCHES, STRATEGIES, lowest, mask_of
from explorer.search.controls import CONTROLS, draws
from explorer.search.outcome import Budget
from explorer.search.paper import proportional
from explorer.search.problem import Problem, solve
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests import tiny
from tests.commands import run

NAN, INF = math.nan, math.inf


def overflowing(folder: Path, scale: float, dtype: str = "float32") -> Model:
    """A tiny model in whose first MLP one word's activations overflow: large finite weights, no infinity stored.

    Only prompts that hold the word w3 are concerned: its embedding alone points where the weights are large.
    """
    model = tiny.architecture("gpt2")
    with torch.no_grad():
        block = model.transformer.h[1]
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wpe.weight[:, 0] = 0.0
        model.transformer.wte.weight[tiny.IDS["w3"]] = 0.0
        model.transformer.wte.weight[tiny.IDS["w3"], 0] = 50.0
        model.transformer.h[0].attn.c_proj.weight.mul_(1e-3)
        model.transformer.h[0].mlp.c_proj.weight.mul_(1e-3)
        block.ln_2.weight.fill_(1.0)
        block.ln_2.bias.zero_()
        block.mlp.c_fc.weight.zero_()
        block.mlp.c_fc.bias.fill_(-4 * scale)
        block.mlp.c_fc.weight[0] = 2 * scale  # only w3's stream has its first coordinate beyond 2 after the norm
        block.mlp.c_proj.weight.fill_(scale)
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return load(str(folder), dtype=dtype)


def task_with(*prompts: str) -> Task:
    examples = tuple(Example(prompt, " w5") for prompt in prompts)
    return Task("words", "words", train=examples, validation=examples, test=examples, seed=0)


FINE, BAD = ("w1 w2", "w4 w6", "w7 w8", "w9 w2"), "w1 w3"


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    scale = {"float32": 1e30, "float16": 3e3, "bfloat16": 1e30}[request.param]
    return overflowing(tmp_path_factory.mktemp("overflow"), scale, request.param)


# ---------------------------------------------------------------------------------------------- one loss of many


def test_an_example_that_overflows_is_wrong_and_named(broken: Model) -> None:
    view, task = broken.view(), task_with(*FINE[:2], BAD, *FINE[2:])
    hf = broken.bridge.original_model
    ids = torch.tensor([[0, tiny.IDS["w1"], tiny.IDS["w3"]]])
    with torch.no_grad():  # the model itself, without this program
        assert not torch.isfinite(hf(ids).logits.float()).all()
    found = evaluate(view, task, "test")
    assert found.not_finite == (2,)
    assert not found.correct[2]
    assert found.answers[2] == ""
    assert math.isnan(found.mean_loss.value)
    assert found.as_dict()["not_finite"] == 1
    said = sentence(view, task, found.examples, found.loss, "test")
    assert said is not None
    for words in ("1 of 5 test examples", "example 2", "'w1 w3'", "layer 1", str(hf.dtype).removeprefix("torch.")):
        assert words in said
    assert origin(view, task, task.test[0]) is None
    assert origin(view, task, task.test[2]) in ("layer 1, mlp.c_proj", "layer 1, mlp.c_fc", "layer 1, mlp.act")


def test_nothing_is_scored_or_searched_where_a_loss_is_not_finite(broken: Model) -> None:
    view, svds, task = broken.view(), SvdCache(None), task_with(*FINE, BAD)
    keys = matrices(view, [Kind.Q], [0])
    for scorer in ("gradient", "random", "magnitude"):
        with pytest.raises(NotFiniteError, match=r"1 of 5 train examples .*example 4 \('w1 w3'\).*layer 1"):
            score(view, task, svds, keys, scorer=scorer)
    for name in SEARCHES:
        problem = Problem(view, task, svds, keys, Budget(3))
        with pytest.raises(NotFiniteError, match=r"validation examples .*layer 1"):
            solve(problem, SEARCHES[name])


def test_logits_that_are_not_numbers_are_never_right() -> None:
    for bad in (NAN, INF):
        logits = torch.tensor([[bad, 0.0, 0.0], [1.0, 0.0, 0.0]])
        zeros = torch.zeros(2, dtype=torch.long)
        batch = Batch(
            torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.bool), zeros[:1], torch.arange(2), zeros,
            zeros, torch.arange(2),
        )  # fmt: skip
        assert logits.argmax(dim=-1).tolist() == [0, 0], "the argmax alone would be right twice"
        assert outcome(logits, batch).correct.tolist() == [False, True]


# ------------------------------------------------------------------------------------------------------- scores


def scores_of(values: dict[MatrixKey, list[float]], means: dict[MatrixKey, list[float]]) -> Scores:
    found = {
        key: MatrixScores(torch.arange(len(row), 0, -1).double(), torch.tensor(row).double(), torch.tensor(means[key]))
        for key, row in values.items()
    }
    return Scores("gradient", "freeze", "t", "train", 3, 0, 1.0, found)


KEYS = [MatrixKey.parse(name) for name in ("L0.Q.H0", "L0.OUT", "L1.K.H1")]
NUMBERS = st.one_of(st.floats(-5, 5), st.sampled_from([NAN, INF, -INF]))
ROWS = st.fixed_dictionaries({key: st.lists(NUMBERS, min_size=4, max_size=4) for key in KEYS})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, means=ROWS, seed=st.integers(0, 5), count=st.integers(1, 12))
def test_no_strategy_and_no_control_chooses_what_is_not_finite(
    empty: Mask, rows: dict[MatrixKey, list[float]], means: dict[MatrixKey, list[float]], seed: int, count: int
) -> None:
    scores = scores_of(rows, means)
    good = {
        (str(key), index)
        for key in KEYS
        for index in range(4)
        if math.isfinite(rows[key][index]) and math.isfinite(means[key][index])
    }
    assert {(str(key), index) for _, key, index in scores.ranking()} == good
    assert {(str(key), index) for key, index in proportional(scores)} == good
    assert len(scores.unusable) == 12 - len(good)
    for strategy in STRATEGIES.values():
        if count > len(good):
            with pytest.raises(NotFiniteError, match="not finite, the first of them value"):
                strategy(scores, count, seed)
            continue
        chosen = {(one.matrix, one.index) for one in strategy(scores, count, seed)}
        assert len(chosen) == count
        assert chosen <= good
    best = sorted(good, key=lambda one: rows[MatrixKey.parse(one[0])][one[1]])[: min(count, len(good))]
    mask = empty.with_removed(scores.removed(MatrixKey.parse(key), index) for key, index in best)
    for control in CONTROLS:
        for drawn in draws(scores, mask, control, [seed]):
            assert {(one.matrix, one.index) for one in drawn.removed} <= good


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    return load(str(tiny.save("gpt2", tmp_path_factory.mktemp("gpt2")))).view()


@pytest.fixture(scope="module")
def empty(view: View) -> Mask:
    return empty_mask(view.model)


def test_a_value_that_is_not_finite_is_refused_by_name() -> None:
    scores = scores_of({KEYS[0]: [0.0, 1.0]}, {KEYS[0]: [NAN, 1.0]})
    with pytest.raises(NotFiniteError, match=r"value 0 of L0.Q.H0 .* frozen mean nan"):
        scores.removed(KEYS[0], 0)
    with pytest.raises(NotFiniteError, match=r"1 of 2 have .* value 0 of L0.Q.H0; choose 1 at most"):
        lowest(scores, 2)
    with pytest.raises(SettingsError, match="choose 0 to 2"):
        lowest(scores, 3)


# ------------------------------------------------------------------------------------------------------ searches


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SEARCHES))
def test_every_search_ends_and_passes_over_scores_that_are_not_finite(
    view: View, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other value has no finite score: no measured mask holds one, and the search ends."""
    import explorer.search.problem as problems

    plain = problems.score

    def spoiled(*args: object, **given: object) -> Scores:
        found = plain(*args, **given)  # type: ignore[arg-type]
        rows = {}
        for key, one in found.matrices.items():
            worse = one.score.clone()
            worse[::2] = torch.tensor([NAN, -INF, INF]).repeat(len(worse))[: len(worse[::2])].to(worse)
            rows[key] = replace(one, score=worse)
        return replace(found, matrices=rows)

    monkeypatch.setattr(problems, "score", spoiled)
    if name in ("learned", "thorough"):
        from explorer.search.learned import LearnedSettings

        trained: Any = SEARCHES[name]
        monkeypatch.setitem(SEARCHES, name, lambda given: trained(given, LearnedSettings(steps=30)))
    task = replace(tiny.task(), validation=tiny.task().train)
    problem = Problem(view, task, SvdCache(None), matrices(view, [Kind.Q, Kind.IN], [0]), Budget(6), limit=8)
    found = solve(problem, SEARCHES[name])
    for point in found.curve:
        assert all(one.index % 2 for one in point.mask.removed), name


def test_a_mask_that_makes_the_model_infinite_is_no_result(tmp_path: Path) -> None:
    """A bias that holds huge weights in check: without it, the model overflows on every example."""
    model = overflowing(tmp_path, 1e30)
    view, svds, task = model.view(), SvdCache(None), task_with(*FINE)
    keys = matrices(view, [Kind.IN], [1])
    scores = score(view, task, svds, keys, scorer="magnitude", mode="freeze")
    harmful = mask_of(view, scores, [scores.removed(keys[0], 0)]).model_copy(update={"mode": "zero"})
    problem = Problem(view, task, svds, keys, Budget(3), mode="zero")

    def strategy(given: Problem) -> None:
        given.measure(harmful)

    broken = evaluate_with(view, svds, harmful.with_removed([]), task)
    assert not broken.not_finite
    found = solve(problem, strategy)
    if found.curve[1].validation.not_finite:
        assert found.best is found.curve[0]
        assert not problem.allows(found.curve[1])
        assert not problem.improves(found.curve[1], found.curve[0])


def evaluate_with(view: View, svds: SvdCache, mask: Mask, task: Task):
    apply(view, mask, svds)
    return evaluate(view, task, "test")


# ----------------------------------------------------------------------------------------------------- summaries


@pytest.mark.parametrize("values", [[1.0, NAN], [INF, -INF], [INF, 1.0]])
def test_a_mean_with_what_is_not_finite_is_no_number(values: list[float]) -> None:
    found = mean(values)
    assert (math.isnan(found.value), math.isnan(found.stderr), found.n) == (True, True, 2)
    assert all(map(math.isnan, bootstrap_interval(values)))


def test_a_mean_of_huge_numbers_is_their_mean() -> None:
    found = mean([1e200, 3e200])
    assert (found.value, found.stderr) == (pytest.approx(2e200), pytest.approx(1e200))
    assert mean([1.7e308, 1.7e308]).value == pytest.approx(1.7e308)


def test_a_perplexity_beyond_the_largest_number_is_told_by_its_logarithm() -> None:
    huge, usual = (Perplexity((loss, loss), (1, 1), 4, 2, "t") for loss in (800.0, 2.0))
    assert (huge.value, growth(huge, usual)[0]) == (INF, INF)
    assert perplexity_text(huge.value, huge.loss) == "beyond 1e308 (800.0 nats per token)"
    assert perplexity_text(None, 800.0) == perplexity_text(huge.value, huge.loss)
    assert perplexity_text(usual.value, usual.loss) == "7.39"
    assert json.loads(json.dumps(finite.plain(huge.as_dict())))["perplexity"] is None
    none = Perplexity((NAN, 2.0), (1, 1), 4, 2, "t")
    assert math.isnan(none.loss)
    assert perplexity_text(none.value, none.loss) == "not finite"


def test_a_choice_without_a_finite_probability_is_never_picked(view: View) -> None:
    """Minus infinity is a probability of 0, which loses; beside what is not a number nothing is known to win."""
    examples = tuple(Example("p", " a", (" a", " b")) for _ in range(5))
    exact = evaluate(view, tiny.task(), "test", limit=5)
    scores = ((NAN, -2.0), (NAN, -INF), (-1.0, NAN), (-INF, -2.0), (-INF, -INF))
    found = Alternatives(examples, ((" a", " b"),) * 5, scores, ((1, 1),) * 5, exact)
    assert found.picked() == (None, None, None, " b", None)
    assert found.correct() == (False,) * 5


def test_trust_is_about_the_finite_pairs() -> None:
    x, y = [0.1 * i for i in range(30)], [0.2 * i + 0.01 for i in range(30)]
    assert trust([*x, NAN, 1.0, -INF], [*y, 1.0, INF, 2.0]) == trust(x, y)


def test_files_of_json_hold_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"losses": [1.0, NAN], "last": (INF,)})

    def refuse(name: str) -> Iterator[None]:
        raise AssertionError(name)

    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"losses": [1.0, None], "last": [None]}


# ------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A model that overflows on w3, a task of which one test example holds it, and one of nothing else."""
    root = tmp_path_factory.mktemp("files")
    overflowing(root / "model", 1e30)
    rows = [{"prompt": prompt, "answer": " w5", "split": split} for prompt in FINE for split in ("train", "validation")]
    mixed = [*rows, *({"prompt": f"{prompt} w10", "answer": " w5", "split": "test"} for prompt in FINE)]
    mixed.append({"prompt": BAD, "answer": " w5", "split": "test"})
    alone = [{"prompt": f"w{n} w3", "answer": " w5", "split": split} for n in (5, 6) for split in ("train", "test")]
    for name, lines in (("mixed", mixed), ("alone", alone)):
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return str(root / "model"), str(root / "mixed.jsonl"), str(root / "alone.jsonl")


def test_eval_says_which_losses_are_not_finite_and_stays_json(files: tuple[str, str, str]) -> None:
    model, mixed, alone = files
    words = ("eval", "--model", model, "--task", mixed)
    result = run(*words, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(name))
    assert (found["n"], found["loss"], found["loss_stderr"], found["not_finite"][0]["count"]) == (5, None, None, 1)
    assert (found["not_finite"][0]["model"], found["not_finite"][0]["first"]) == ("unpruned", 4)
    assert "Note, unpruned: the loss of 1 of 5 test examples is not finite in float32" in result.stderr
    assert "'w1 w3'" in result.stderr
    assert "layer 1, mlp." in result.stderr
    assert "not finite" in run(*words).stdout
    refused = run("eval", "--model", model, "--task", alone)
    assert refused.exit_code == 2
    assert "the loss of 2 of 2 test examples is not finite" in refused.stderr


@pytest.mark.slow
def test_prune_writes_no_mask_of_scores_that_are_not_numbers(files: tuple[str, str, str], tmp_path: Path) -> None:
    model, _, alone = files
    for scorer in ("gradient", "magnitude", "random"):
        out = tmp_path / f"{scorer}.json"
        words = ("prune", "--model", model, "--task", alone, "--kinds", "Q", "--count", 2, "--scorer", scorer)
        result = run(*words, "--out", out)
        assert (result.exit_code, out.exists()) == (2, False)
        assert "of 2 train examples is not finite" in result.stderr
        assert "Traceback" not in result.stderr
