"""What a search has seen: it reads no held-out example, and its report counts what it has read, as by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.core.keys import Kind
from explorer.masks.apply import apply, empty_mask
from explorer.measure.evaluate import evaluate
from explorer.models import Model
from explorer.plots.search_page import search_page
from explorer.search import SEARCHES
from explorer.search.columns import measured_rows, seen_sentences
from explorer.search.conductor import conduct
from explorer.search.learned import LearnedSettings, learned
from explorer.search.options import USUAL, Chosen
from explorer.search.problem import Problem
from explorer.search.report import Report
from explorer.search.request import SearchRequest
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task
from tests.commands import report as command

NUMBERS = range(1, 8)


class Sealed(tuple[Example, ...]):
    """Held-out examples that raise as soon as somebody looks at them while they are sealed."""

    sealed = False

    def _look(self) -> None:
        if type(self).sealed:
            raise AssertionError("a search has read a held-out example")

    def __iter__(self) -> Iterator[Example]:
        self._look()
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        self._look()
        return super().__getitem__(place)

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __contains__(self, example: object) -> bool:
        self._look()
        return super().__contains__(example)


def example(i: int, j: int, words: str = "w{} w{}") -> Example:
    return Example(words.format(i, j), f" w{(i * j) % 20}")


def mirrored() -> Task:
    """Products: the test split has mirrors of train examples, an example of validation, and new ones."""
    train = tuple(example(i, j) for i in NUMBERS for j in NUMBERS if i < j and (i + j) % 3)
    validation = tuple(example(i, i) for i in NUMBERS)
    test = (example(2, 1), example(3, 3), example(5, 1), example(4, 2), example(6, 3), example(9, 9))
    return Task("mirrored", "words", train, validation=validation, test=test, seed=0)


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


def request(strategy: str, **settings: Any) -> SearchRequest:
    given = {"max_removed": 2, "limit": None, "controls": 1, "test_limit": None, **settings}
    return SearchRequest(
        strategy, (Kind.V,), (0,), per_head=True, mode="freeze", scorer="gradient", seconds=None, seed=0, **given
    )


def quick(problem: Problem) -> None:
    learned(problem, LearnedSettings(steps=5))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(SEARCHES))
def test_no_search_reads_a_held_out_example(
    model: Model, svds: SvdCache, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SEARCHES, "learned", quick)
    task = mirrored()
    asked, ran = replace(task, test=Sealed(task.test)), []

    def sealed(problem: Problem) -> None:
        monkeypatch.setattr(Sealed, "sealed", True)
        try:
            SEARCHES[strategy](problem)
            ran.append(problem.task.test)
        finally:
            monkeypatch.setattr(Sealed, "sealed", False)

    found = conduct(request(strategy), model.view(), asked, svds, chosen=Chosen(sealed, {}))
    assert ran == [()]
    usual = conduct(request(strategy), model.view(), task, svds, chosen=USUAL.choose(strategy, lambda name: task))
    assert found.mask.digest == usual.mask.digest
    assert found.test == usual.test
    monkeypatch.setattr(Sealed, "sealed", True)
    with pytest.raises(AssertionError, match="has read a held-out example"):
        asked.split("test")


@pytest.fixture(scope="module")
def found(model: Model, svds: SvdCache) -> Report:
    return conduct(request("largest"), model.view(), mirrored(), svds)


def test_the_report_counts_what_was_seen_as_by_hand(found: Report, model: Model, svds: SvdCache) -> None:
    seen = found.file.seen
    assert seen is not None
    task = mirrored()
    read = {one.prompt for one in (*task.train, *task.validation)}
    answers = {one.answer for one in (*task.train, *task.validation)}
    prompts = [one.prompt in read for one in task.test]
    twins = [" ".join(reversed(one.prompt.split())) in read and len(set(one.prompt.split())) > 1 for one in task.test]
    known = [one.answer in answers for one in task.test]
    assert (seen.n, seen.prompts, seen.twins, seen.answers) == (6, sum(prompts), sum(twins), sum(known))
    new = [place for place in range(6) if not prompts[place] and not twins[place]]
    assert seen.new_cases is not None
    view = model.view()
    rest = replace(task, test=tuple(task.test[place] for place in new))
    for mask, figures in ((empty_mask(model), seen.new_cases.baseline), (found.mask, seen.new_cases.masked)):
        apply(view, mask, svds)
        alone = evaluate(view, rest, "test")
        assert (figures.n, figures.accuracy) == (alone.n, alone.accuracy)
        assert figures.loss == pytest.approx(alone.mean_loss.value, abs=1e-5)


def test_the_report_is_shown_with_what_was_seen(found: Report) -> None:
    file = found.file
    assert file.seen is not None
    sentence = next(seen_sentences(file.seen))
    assert sentence.startswith(f"Of 6 examples {file.seen.prompts} were read themselves to find the mask, a twin of")
    assert sentence in search_page(file)
    names = [name for name, _ in measured_rows(file)]
    assert "unpruned, test, not seen" in names
    assert found.as_dict()["seen"]["new_cases"]["masked"]["n"] == file.seen.new_cases.masked.n  # type: ignore[union-attr]


def test_a_report_of_before_says_nothing_of_what_was_seen(found: Report) -> None:
    names = [name for name, _ in measured_rows(replace(found.file, seen=None))]
    assert len(names) == 4
    assert "read themselves to find the mask" not in search_page(replace(found.file, seen=None))


def test_eval_counts_what_the_search_of_a_mask_has_seen(tmp_path: Path, folder: Path) -> None:
    path, mask = tmp_path / "planted.csv", tmp_path / "mask.json"
    rows = [
        (f"w{i} w{j}", f" w{(i * j) % 20}", "train" if i < j else "test") for i in NUMBERS for j in NUMBERS if i != j
    ]
    rows += [(f"w{i} w{i}", f" w{(i * i) % 20}", "validation") for i in NUMBERS]
    rows += [("w9 w8", " w12", "test")]
    path.write_text("prompt,answer,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    asked = ("--model", folder, "--task", path)
    command("prune", *asked, "--kinds", "V", "--count", 3, "--out", mask)
    found = command("eval", *asked, "--mask", mask)
    assert (found["n"], found["seen"]["prompts"], found["seen"]["twins"]) == (22, 0, 21)
    assert found["seen"]["new_cases"]["masked"]["n"] == 1
    assert command("eval", *asked)["seen"] is None
