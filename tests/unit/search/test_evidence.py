"""Nulls, baselines, members and repeats of a mask: each against plain arithmetic, and none of them reads ahead."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

import explorer.search.evidence.repeats as repeats_module
import explorer.search.evidence.searched as searched_module
from explorer.actions import names
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.measure.figures import ComparisonFigures, Figures
from explorer.models import Model, load
from explorer.models.matrices import matrices, read, read_base, read_bias
from explorer.plots.search_latex import escaped, search_latex
from explorer.plots.search_page import search_page
from explorer.search import SEARCHES
from explorer.search.conductor import Recording, conduct
from explorer.search.evidence.choice import BASELINE_NAMES, NULL_NAMES, EvidenceChoice, as_evidence
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.figures import (
    AbilityFigures,
    ClusteredFigures,
    EvidenceFigures,
    RivalFigures,
    WordingFigures,
)
from explorer.search.evidence.gather import wording
from explorer.search.evidence.means import weights as mean_weights
from explorer.search.evidence.members import holm, minimality, subsets
from explorer.search.evidence.prompts import drawn
from explorer.search.evidence.repeats import recut, stability
from explorer.search.evidence.rivals import BASELINES, NULLS
from explorer.search.evidence.searched import change_of, searched_shuffled, shuffled
from explorer.search.evidence.sentence import Facts, licensed
from explorer.search.evidence.trained import train
from explorer.search.evidence.tunable import Adapters, BiasShifts, Gains, Tunable, first_triple, gradients
from explorer.search.journal import JournalFile
from explorer.search.learned import LearnedSettings
from explorer.search.mask_cells import here
from explorer.search.outcome import Budget
from explorer.search.problem import Problem, solve
from explorer.search.report import Evidence, search
from explorer.search.report_file import SearchFile, load_report
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task, Wording, load_task, read_in_search
from tests import commands, tiny

NUMBERS = range(1, 8)
TUNABLE = {"bias-only": BiasShifts, "lora-1": Adapters, "scaling": Gains}


class Sealed(tuple[Example, ...]):
    """Held-out examples that raise as soon as somebody looks at them while they are sealed."""

    sealed = False

    def __iter__(self) -> Iterator[Example]:
        assert not type(self).sealed, "a search has read a held-out example"
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        assert not type(self).sealed, "a search has read a held-out example"
        return super().__getitem__(place)

    def __len__(self) -> int:
        assert not type(self).sealed, "a search has counted held-out examples"
        return super().__len__()


def example(i: int, j: int, words: str = "w{} w{}") -> Example:
    return Example(words.format(i, j), f" w{(i * j) % 20}")


def products() -> Task:
    """Products in the tiny models' words; twins share their split, and one wording is never searched with."""
    pairs = [(i, j) for i in NUMBERS for j in NUMBERS]
    of = {part: [(i, j) for i, j in pairs if (i + j) % 3 == part] for part in range(3)}
    train = tuple(example(i, j) for i, j in of[0])
    validation, test = (tuple(example(i, j) for i, j in of[part]) for part in (1, 2))
    unseen = Wording("w8 {i} {j}", tuple(one.asked(f"w8 {one.prompt}") for one in test))
    return Task("products", "words", train, validation=validation, test=test, seed=0, unseen=(unseen,))


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


@pytest.fixture(scope="module")
def claim(model: Model, svds: SvdCache) -> Claim:
    """A mask that the paper's strategy finds on a tiny model."""
    return claimed(model, svds)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tiny model on which the paper's strategy finds something."""
    return load(str(tiny.save("llama", tmp_path_factory.mktemp("llama"))), dtype="float32", device="cpu")


def claimed(model: Model, svds: SvdCache, task: Task | None = None, journal: Any = None) -> Claim:
    view, whole = model.view(), task or products()
    problem = Problem(view, whole, svds, matrices(view, (Kind.V, Kind.O)), Budget(6), journal=journal)
    mask = solve(problem, SEARCHES["paper"]).curve[-1].mask  # the largest, whether it helps or not
    assert len(mask) == 6
    apply(view, mask, svds)
    masked = evaluate(view, whole, "test")
    apply(view, problem.mask(), svds)
    both = Comparison(masked, evaluate(view, whole, "test"))
    read = read_in_search(whole)
    return Claim(problem, whole, SEARCHES["paper"], mask=mask, comparison=both, limit=None, text=None, read=read)


def test_names_are_those_of_the_tables() -> None:
    assert tuple(NULLS) == NULL_NAMES == get_args(names.Null)
    assert tuple(BASELINES) == BASELINE_NAMES == get_args(names.Baseline)
    assert as_evidence("all", "chat,bias-only") == EvidenceChoice(NULL_NAMES, ("bias-only", "chat"))
    for wrong in ({"nulls": "nothing"}, {"baselines": "shuffled"}, {"repeats": 0}):
        with pytest.raises(SettingsError):
            as_evidence(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="mean-only"):
        as_evidence("all").check_mode("zero")


# ---- nulls


def test_shuffling_permutes_answers_and_keeps_twins_alike() -> None:
    task = products()
    found = shuffled(task, 0)
    before, after = ([*one.train, *one.validation] for one in (task, found))
    assert [one.prompt for one in before] == [one.prompt for one in after]
    assert sum(a.answer != b.answer for a, b in zip(before, after, strict=True)) > len(before) / 2
    by_twins: dict[str, set[str]] = {}
    for old, new in zip(before, after, strict=True):
        by_twins.setdefault(old.case.twins, set()).add(new.answer)
        assert new.case == old.case
    assert all(len(answers) == 1 for answers in by_twins.values())
    assert {one.answer for one in after} <= {one.answer for one in before}
    assert shuffled(task, 0) == found != shuffled(task, 1)


def test_shuffled_choices_stay_choices() -> None:
    rows = tuple(Example(f"w{i}", f" w{i + i % 2}", (f" w{i}", f" w{i + 1}")) for i in range(8))
    task = Task("choices", "words", rows[:6], validation=rows[6:], test=rows, seed=0)
    found = [*shuffled(task, 1).train, *shuffled(task, 1).validation]
    assert sorted(one.choices.index(one.answer) for one in found) == [0] * 4 + [1] * 4
    assert [one.choices for one in found] == [one.choices for one in rows]


@pytest.mark.slow
def test_shuffled_answers_give_masks_that_help_the_shuffled_task_only(bundled: Model) -> None:
    svds, task = SvdCache(None), load_task("int-mult")
    view = bundled.view()
    problem = Problem(view, task, svds, matrices(view, (Kind.K, Kind.V)), Budget(12), limit=64)
    mask = solve(problem, SEARCHES["verified"]).best.mask
    baseline = evaluate(view, task, "test")
    apply(view, mask, svds)
    both = Comparison(evaluate(view, task, "test"), baseline)
    claim = Claim(problem, task, SEARCHES["verified"], mask, both, limit=None, text=None, read=read_in_search(task))
    found = searched_shuffled(claim)
    assert found.own is not None
    assert found.change is not None
    assert f"has the norm {found.change:.3g}, the mask's {change_of(mask):.3g}." in found.note
    assert found.own.masked.loss < found.own.baseline.loss - 1, "it helps the shuffled task"
    assert both.masked.accuracy > baseline.accuracy + 0.2, "the search itself helps the true one"
    assert found.accuracy[0] <= baseline.accuracy + 0.05, "and the shuffled one does not"


def test_mean_only_moves_biases_and_nothing_else(claim: Claim) -> None:
    """The biases are those of the pruned model, the weights those of the unpruned one."""
    found = mean_weights(claim)
    assert set(found) == {key.stacked for key in claim.mask.by_matrix}
    for site, (W, b) in found.items():
        assert torch.equal(W, read_base(claim.view, site))
        assert b is not None
        apply(claim.view, claim.mask, claim.problem.svds)
        pruned = claim.view
        bias = read_bias(pruned, site)
        assert bias is not None
        torch.testing.assert_close(b, bias, rtol=1e-5, atol=1e-6)
        assert not torch.equal(read(claim.view, site), W)
        claim.unprune()
    with claim.running(found):
        assert all(torch.equal(read(claim.view, site), W) for site, (W, _) in found.items())
    assert claim.view.applied == {}


# ---- baselines


@pytest.mark.parametrize("name", TUNABLE)
def test_trained_numbers_are_few_and_leave_the_model_as_it_is(model: Model, svds: SvdCache, name: str) -> None:
    before = model.current_digest()
    claim = claimed(model, svds)
    tunable: Tunable = TUNABLE[name].chosen(claim, len(claim.mask))  # type: ignore[attr-defined]
    assert 0 < tunable.numbers <= len(claim.mask)
    start = tunable.weights()
    for site, (W, _) in start.items():
        torch.testing.assert_close(W, read_base(claim.view, site))
    found = train(claim, tunable, 0.05, settings=LearnedSettings(steps=20), seconds=None, tell=lambda step: None)
    unpruned = claim.problem.curve[0].validation.mean_loss.value
    assert found.loss <= unpruned
    assert found.steps == 20
    now = tunable.weights()
    assert any(not torch.equal(W, now[site][0]) or not torch.equal(b, now[site][1]) for site, (W, b) in start.items())  # type: ignore[arg-type]
    again: Tunable = TUNABLE[name].chosen(claim, len(claim.mask))  # type: ignore[attr-defined]
    for one, value in zip(again.parameters, found.state, strict=True):
        one.detach().copy_(value)
    with claim.running(again.weights()):
        measured = evaluate(claim.view, claim.problem.task, "validation").mean_loss.value
    assert measured == pytest.approx(found.loss, abs=1e-6)
    assert model.current_digest() == before
    assert claim.view.applied == {}


def test_gains_of_zero_are_the_mask(claim: Claim) -> None:
    found = Gains.chosen(claim, len(claim.mask))
    scores = claim.problem.score()
    chosen = [
        scores.removed(key, index)
        for key, (_, s, _, _) in found.parts.items()
        for index, size in enumerate(scores.matrices[key].s.tolist())
        if any(math.isclose(size, one, rel_tol=1e-5) for one in s.tolist())
    ]
    assert len(chosen) == found.numbers
    for gain in found.parameters:
        gain.detach().zero_()
    apply(claim.view, claim.problem.mask(chosen), claim.problem.svds)
    pruned = {site: read(claim.view, site).clone() for site in found.weights()}
    claim.unprune()
    for site, (W, _) in found.weights().items():
        torch.testing.assert_close(W.detach(), pruned[site], rtol=1e-4, atol=1e-5)


def test_an_adapter_has_rank_one_and_few_coordinates(claim: Claim) -> None:
    found = Adapters.chosen(claim, 5)
    assert found.numbers == 5
    for one in found.parameters:
        one.detach().fill_(0.5)
    ((site, (W, _)),) = found.weights().items()
    s = torch.linalg.svdvals(W.detach() - read_base(claim.view, site))
    assert int((s > 1e-6).sum()) == 1
    large = Adapters.chosen(claim, 10_000)
    assert large.numbers == sum(sum(read_base(claim.view, one).shape) for one in large.a)


def test_the_gradient_is_that_of_the_loss_and_its_first_triple_lapacks(claim: Claim) -> None:
    found = gradients(claim)
    for of_weight, _ in found.values():
        u, s, vh = torch.linalg.svd(of_weight.double())
        mine = first_triple(of_weight.double())
        assert mine[1] == pytest.approx(float(s[0]), rel=1e-3)
        if s[1] < 0.8 * s[0]:
            assert abs(float(mine[0] @ u[:, 0])) == pytest.approx(1, abs=1e-3)
            assert abs(float(mine[2] @ vh[0])) == pytest.approx(1, abs=1e-3)


def test_shots_are_drawn_from_train_and_asked_in_every_wording() -> None:
    task = products()
    first, other = drawn(task, 3, 0), drawn(task, 3, 1)
    assert first.test[0].prompt != other.test[0].prompt
    shown = first.test[0].prompt.removesuffix(task.test[0].prompt)
    assert shown.strip("\n").split("\n") == [one.prompt + one.answer for one in task.train[:3]]
    assert first.unseen[0].examples[0].prompt == shown + task.unseen[0].examples[0].prompt


# ---- members, subsets, wordings, repeats


def test_leave_one_out_equals_brute_force(claim: Claim) -> None:
    found = minimality(claim, here(claim.view, claim.task, claim.problem.svds))
    assert (found.members, len(found.measured), found.n) == (len(claim.mask), len(claim.mask), len(claim.task.test))
    measured = {(one.matrix, one.index): one for one in found.measured}
    p = {}
    for member in claim.mask.removed:
        apply(claim.view, claim.mask.without({(member.matrix, member.index)}), claim.problem.svds)
        after = evaluate(claim.view, claim.task, "test")
        one = measured[member.matrix, member.index]
        rises = np.array(after.loss) - np.array(claim.comparison.masked.loss)
        assert one.loss.value == pytest.approx(float(rises.mean()), abs=1e-5)
        assert one.accuracy == pytest.approx(after.accuracy - claim.comparison.masked.accuracy, abs=1e-9)
        p[member.matrix, member.index] = one.loss.value / one.loss.stderr
    claim.unprune()
    needed = [p[one.matrix, one.index] for one in found.necessary]
    rest = [p[one.matrix, one.index] for one in found.measured if not one.necessary]
    assert not needed or min(needed) >= max(rest, default=-math.inf)


def test_random_subsets_are_subsets_of_the_mask(claim: Claim) -> None:
    found = subsets(claim, here(claim.view, claim.task, claim.problem.svds))
    assert all(0 < one.kept < len(claim.mask) and len(one.accuracy) == len(one.loss) == 5 for one in found)


def test_holms_correction() -> None:
    """The example of Aickin and Gensler (1996) and others: 0.01 and 0.005 of four are rejected at 0.05."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([]) == []


def test_a_wording_is_measured_as_a_task_of_its_own(claim: Claim) -> None:
    found = wording(claim, claim.task.unseen[0])
    own = replace(claim.task, test=claim.task.unseen[0].examples)
    apply(claim.view, claim.mask, claim.problem.svds)
    assert found.masked.accuracy == evaluate(claim.view, own, "test").accuracy
    claim.unprune()
    assert found.baseline.loss == pytest.approx(evaluate(claim.view, own, "test").mean_loss.value)


def test_another_cut_has_the_same_examples_and_keeps_twins_together() -> None:
    task = products().searchable
    found = recut(task, 3)
    assert sorted(one.prompt for one in (*found.train, *found.validation)) == sorted(
        one.prompt for one in (*task.train, *task.validation)
    )
    assert not {one.case.twins for one in found.train} & {one.case.twins for one in found.validation}
    assert abs(len(found.validation) - len(task.validation)) <= 1
    assert found.validation != recut(task, 4).validation


@pytest.mark.slow
def test_repeats_say_how_often_each_value_was_chosen(claim: Claim) -> None:
    found = stability(claim, 3)
    problem, masks = claim.problem, [claim.mask]
    for number in (1, 2):
        own = Problem(
            claim.view, recut(problem.task, number), problem.svds, problem.keys, problem.budget, seed=number
        )  # fmt: skip
        masks.append(solve(own, SEARCHES["paper"]).best.mask)
    places = [{(one.matrix, one.index) for one in mask.removed} for mask in masks]
    counted = {(one.matrix, one.index): one.times for one in found.chosen}
    assert counted == {place: sum(place in one for one in places) for place in set.union(*places)}
    assert found.removed == tuple(map(len, masks))
    assert found.core == len(set.intersection(*places))


# ---- all of it


def conducted(model: Model, svds: SvdCache, task: Task, choice: EvidenceChoice, **given: Any) -> Any:
    request = SearchRequest(
        "paper", (Kind.V, Kind.O), None, per_head=True, mode="freeze", scorer="gradient", limit=None, max_removed=4,
        seconds=None, seed=0, controls=1, test_limit=None, evidence=choice,
    )  # fmt: skip
    return conduct(request, model.view(), task, svds, **given)


WHOLE = EvidenceChoice(NULL_NAMES, BASELINE_NAMES, 2, parts=True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of training."""
    monkeypatch.setattr("explorer.search.evidence.trained.LearnedSettings", lambda: LearnedSettings(steps=4))
    monkeypatch.setattr("explorer.search.report.MANY", 3)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_nothing_that_searches_or_trains_reads_a_held_out_item_or_wording(
    llama: Model, svds: SvdCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = products()
    unseen = (replace(task.unseen[0], examples=Sealed(task.unseen[0].examples)),)
    sealed, ran = replace(task, test=Sealed(task.test), unseen=unseen), []

    def shut(run: Any) -> Any:
        def running(*args: Any, **options: Any) -> Any:
            ran.append(run.__name__)
            monkeypatch.setattr(Sealed, "sealed", True)
            try:
                return run(*args, **options)
            finally:
                monkeypatch.setattr(Sealed, "sealed", False)

        return running

    monkeypatch.setattr("explorer.search.report.solve", shut(solve))
    monkeypatch.setattr(searched_module, "solve", shut(solve))
    monkeypatch.setattr("explorer.search.evidence.trained.train", shut(train))
    for one in TUNABLE.values():
        monkeypatch.setattr(one, "chosen", shut(one.chosen))  # type: ignore[attr-defined]
    monkeypatch.setattr(repeats_module, "recut", shut(recut))
    found = conducted(llama, svds, sealed, WHOLE)
    assert ran.count("solve") == 1 + 2 + 1
    assert (ran.count("train"), ran.count("chosen"), ran.count("recut")) == (6, 6, 1)
    monkeypatch.undo()
    assert found.evidence is not None


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_what_was_measured_is_found_again(
    llama: Model, svds: SvdCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = JournalFile(tmp_path / "searches.sqlite", lambda sentence: pytest.fail(sentence))
    choice = replace(WHOLE, baselines=("bias-only", "shots"), repeats=1)
    first = conducted(llama, svds, products(), choice, recording=Recording(journals))

    measured: list[str] = []
    for table in (NULLS, BASELINES):
        for name, named in table.items():
            counting = {one: partial(counted, rival, one, measured) for one, rival in named.items()}
            monkeypatch.setitem(table, name, counting)
    again = conducted(llama, svds, products(), choice, recording=Recording(journals))
    assert again.file.evidence.as_dict() == first.file.evidence.as_dict()
    assert measured == []
    assert again.seconds == pytest.approx(first.seconds, abs=1.0), "evidence is not on the search's clock"
    conducted(llama, svds, products(), replace(choice, parts=False), recording=Recording(journals, fresh=True))
    assert sorted(measured) == sorted(first.evidence.rivals)


def counted(rival: Any, name: str, measured: list[str], claim: Claim, progress: Any) -> Any:
    """A rival that says that it was measured."""
    measured.append(name)
    return rival(claim, progress)


@pytest.fixture(scope="module")
def file(llama: Model, svds: SvdCache) -> SearchFile:
    """A report with evidence that takes no training."""
    choice = EvidenceChoice(("mean-only",), ("shots", "chat"), 2, parts=True)
    return conducted(llama, svds, products(), choice).file  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_report_with_evidence_is_written_read_and_shown(file: SearchFile, tmp_path: Path) -> None:
    file.save(tmp_path)
    assert load_report(tmp_path).to_json() == file.to_json()
    evidence = file.evidence
    assert evidence is not None
    assert set(evidence.rivals) == {"mean-only", "shots-3", "shots-5", "chat"}
    assert "no chat template" in evidence.rivals["chat"].why
    page, table = search_page(file), search_latex(file)
    assert "<h2>Evidence</h2>" in page
    for name in evidence.rivals:
        assert name in page
        assert escaped(name) in table
    assert table.count(r"\\") == table.count(" & ") / 4, "every row has five cells"
    assert r"\toprule" in table
    for name, value in (("seed", file.seed), ("scorer", "gradient"), ("splits", "twins")):
        assert f"{name}: {value}" in table
    shown = " ".join(commands.run("report", tmp_path, "--latex", tmp_path / "t.tex").stdout.split())
    assert (tmp_path / "t.tex").read_text(encoding="utf-8") == table
    assert "mean-only" in shown
    assert " ".join(evidence.sentence.split())[:60] in shown


def test_latex_escapes_what_has_a_meaning() -> None:
    assert escaped("a_b & 5 % {x}\\n#$") == r"a\_b \& 5 \% \{x\}\textbackslash{}n\#\$"


def test_a_search_without_evidence_has_none(llama: Model, svds: SvdCache) -> None:
    view = llama.view()
    problem = Problem(view, products(), svds, matrices(view, (Kind.V,)), Budget(2))
    found = search(problem, products(), "paper", SEARCHES["paper"], evidence=Evidence(control_draws=0))
    assert found.evidence is None
    assert found.as_dict()["evidence"] is None


# ---- the sentence


def clustered(value: float, low: float, high: float) -> ClusteredFigures:
    return ClusteredFigures(n=100, clusters=80, value=value, stderr=0.02, interval=(low, high))


def facts(**changes: Any) -> Facts:
    """A result of which everything may be claimed, but for what is changed."""
    ahead, behind = clustered(0.3, 0.2, 0.4), clustered(0.0, -0.1, 0.1)
    rivals = {
        name: RivalFigures(role="null", accuracy=(0.1,), loss=(1.0,), lead=changes.pop(name, ahead))
        for name in ("searched-shuffled", "searched-rotated", "mean-only")
    }
    rivals |= {
        name: RivalFigures(role="baseline", accuracy=(0.1,), loss=(1.0,), lead=changes.pop(name, ahead))
        for name in ("bias-only", "lora-1", "scaling")
    }
    ability = AbilityFigures(
        n=100, clusters=80, zero=0.0, masked=0.5, shots=0.6, gap=clustered(0.6, 0.5, 0.7), recovered=0.83,
        interval=(0.7, 0.95),
    )  # fmt: skip
    removed, task = changes.pop("removed", 5), "products"
    test = changes.pop("test", None)
    evidence = EvidenceFigures(
        new=100, masked=clustered(0.5, 0.4, 0.6), baseline=behind, change=clustered(0.5, 0.4, 0.6),
        loss_change=clustered(-1.0, -1.2, -0.8), rivals=rivals, ability=ability,
    )  # fmt: skip
    return Facts(task, removed, test or _figures(), replace(evidence, **changes))


def _figures(**given: Any) -> Figures:
    usual = {
        "n": 100, "accuracy": 0.5, "accuracy_interval": (0.4, 0.6), "loss": 1.0, "loss_stderr": 0.1,
    }  # fmt: skip
    return Figures(**{**usual, **given})


EQUAL = clustered(0.0, -0.1, 0.1)
WORSE = clustered(-0.3, -0.4, -0.2)


def test_a_clean_result_licenses_a_claim() -> None:
    said = licensed(facts())
    assert said.startswith("Removing 5 values takes away something that keeps the model from products: 0.0 % to 50.0 %")
    assert "that is 83 % [70, 95] of what shots show that it can (60.0 %)" in said
    assert "not measured: its single members, other seeds and splits" in said
    bare = licensed(replace(facts(), controls=False))
    assert "not measured: random masks, its single members, other seeds and splits" in bare


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"removed": 0}, "nothing is removed"),
        ({"new": 0}, "no test example is new"),
        ({"change": clustered(0.05, -0.01, 0.11)}, "may be chance, though right answers become likelier"),
        ({"change": EQUAL, "loss_change": clustered(0.1, -0.1, 0.3)}, "may be chance"),
        ({"searched-shuffled": EQUAL}, "the same search on permuted answers does as well"),
        ({"mean-only": WORSE}, "the frozen means alone do as well"),
        (
            {"test": _figures(metric="choice", guessing=0.5, accuracy=0.55, accuracy_interval=(0.45, 0.65))},
            "not above guessing among the choices, 50.0 %",
        ),
    ],
    ids=str,
)
def test_what_speaks_against_a_claim_takes_it_away(changes: dict[str, Any], reason: str) -> None:
    said = licensed(facts(**changes))
    assert said.startswith("This licenses no claim: ")
    assert reason in said


def test_wordings_that_do_not_follow_are_said() -> None:
    def asked(*changes: ClusteredFigures) -> tuple[WordingFigures, ...]:
        same = Comparison(_evaluation(), _evaluation())
        return tuple(
            WordingFigures(
                template="{i}",
                masked=_figures(),
                baseline=_figures(),
                comparison=ComparisonFigures.of(same),
                change=one,
            )
            for one in changes
        )

    up = clustered(0.3, 0.2, 0.4)
    assert "it helps in 2 of 2 wordings that were never searched with;" in licensed(facts(wordings=asked(up, up)))
    assert "it helps in 1 of 2 wordings that were never searched with, and not in" in licensed(
        facts(wordings=asked(up, EQUAL))
    )
    assert "it teaches the model nothing in 2 other wordings" in licensed(facts(wordings=asked(EQUAL, EQUAL)))


def _evaluation() -> Evaluation:
    return Evaluation((example(1, 2), example(3, 4)), (1.0, 2.0), (True, False), answers=("", ""))


@pytest.mark.parametrize(
    ("changes", "clause"),
    [
        ({"searched-rotated": EQUAL}, "singular directions are nothing special at this number of values"),
        ({"ability": None}, "whether the ability was there before is open, as no shots were measured"),
        ({"scaling": WORSE}, "scaling of as many numbers does better"),
        ({"scaling": EQUAL, "lora-1": EQUAL}, "lora-1 and scaling of as many numbers cannot be told from it"),
        ({"rivals": {}}, "not measured: searched-shuffled, searched-rotated, mean-only, bias-only, lora-1, scaling"),
    ],
    ids=str,
)
def test_what_is_open_is_said_in_the_claim(changes: dict[str, Any], clause: str) -> None:
    said = licensed(facts(**changes))
    assert said.startswith("Removing 5 values takes away")
    assert clause in said
