"""A mask that no search found, measured as the result of one: the same figures as by hand, and no search of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import explorer as ep
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, Evaluation, evaluate
from explorer.models import Model
from explorer.models.matrices import matrices
from explorer.search import SEARCHES, mask_cells, mask_of
from explorer.search.conductor import Recording, conduct, earlier
from explorer.search.evidence.choice import EvidenceChoice
from explorer.search.evidence.claim import Claim
from explorer.search.evidence.means import mean_only
from explorer.search.given import given_request, given_search
from explorer.search.journal import JournalFile
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.search.report import Report
from explorer.spectra.cache import SvdCache
from explorer.tasks import load_task, read_in_search
from tests import commands

TASK = load_task("int-mult")
LIMIT = 24


@pytest.fixture(scope="module")
def harmful(bundled: Model, svds: SvdCache) -> Mask:
    """Values whose removal raises the loss: the unpruned model is better, and is not to be the result."""
    view = bundled.view()
    keys = matrices(view, (Kind.V, Kind.O), (1, 2))
    scores = ep.score(view, TASK, svds, keys=keys, limit=LIMIT)
    highest = [scores.removed(key, index) for _, key, index in scores.ranking()[-6:]]
    return mask_of(view, scores, highest, task=TASK)


def by_hand(model: Model, svds: SvdCache, mask: Mask) -> Comparison:
    view = model.view()
    apply(view, mask, svds)
    return Comparison(evaluate(view, TASK, "test"), evaluate(model.view(), TASK, "test"))


def conducted(
    model: Model, svds: SvdCache, mask: Mask, choice: EvidenceChoice | None = None, path: Path | None = None, **how: Any
) -> Report:
    request = given_request(mask, choice or EvidenceChoice(), limit=LIMIT, **how)
    journals = None if path is None else JournalFile(path / "searches.sqlite", lambda told: pytest.fail(told))
    recording = None if journals is None else Recording(journals)
    return conduct(request, model.view(), TASK, svds, chosen=given_search(mask), recording=recording)


def test_a_mask_that_does_harm_is_reported_all_the_same(bundled: Model, svds: SvdCache, harmful: Mask) -> None:
    found, expected = conducted(bundled, svds, harmful), by_hand(bundled, svds, harmful)
    assert expected.loss_change.value > 0
    assert found.mask.digest == harmful.digest
    assert (found.test, found.baseline) == (expected.masked, expected.baseline)
    assert found.strategy == found.file.strategy == "given"
    assert found.file.settings.options == {"mask": harmful.digest}


@pytest.mark.parametrize("gain", [0.0, 0.25])
def test_asked_for_again_it_is_the_same_whole_mask(
    bundled: Model, svds: SvdCache, harmful: Mask, tmp_path: Path, gain: float
) -> None:
    mask = harmful.scaled(gain)
    first, again = (conducted(bundled, svds, mask, path=tmp_path, controls=2) for _ in range(2))
    assert first.mask.digest == again.mask.digest == mask.digest
    assert first.test == again.test == by_hand(bundled, svds, mask).masked
    assert first.controls == again.controls


def test_controls_are_measured_once(
    bundled: Model, svds: SvdCache, harmful: Mask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Evaluation] = []

    def watched(*given: Any, **how: Any) -> Evaluation:
        measured.append(evaluate(*given, **how))
        return measured[-1]

    monkeypatch.setattr(mask_cells, "evaluate", watched)
    first = conducted(bundled, svds, harmful, path=tmp_path, controls=3, test_limit=8)
    count = len(measured)
    assert count >= 3
    assert conducted(bundled, svds, harmful, path=tmp_path, controls=3, test_limit=8).controls == first.controls
    assert len(measured) == count
    other = conducted(bundled, svds, harmful, path=tmp_path, controls=3, test_limit=9)
    assert other.test.n == 9
    assert len(measured) == 2 * count, "of other examples they are measured anew"


def test_what_needs_no_search_is_that_of_a_claim(bundled: Model, svds: SvdCache, harmful: Mask) -> None:
    found = conducted(bundled, svds, harmful, EvidenceChoice(nulls=("rotated", "mean-only"))).file.evidence
    assert found is not None
    assert found.rivals["searched-rotated"].accuracy == ()
    assert "No search has chosen this mask" in found.rivals["searched-rotated"].why
    problem = Problem(bundled.view(), TASK, svds, tuple(harmful.by_matrix), Budget(len(harmful)), limit=LIMIT)
    claim = Claim(
        problem, TASK, SEARCHES["paper"], harmful, by_hand(bundled, svds, harmful), limit=None, text=None,
        read=read_in_search(TASK, LIMIT),
    )  # fmt: skip
    expected = mean_only(claim)
    assert found.rivals["mean-only"].loss == expected.loss
    assert found.rivals["mean-only"].hits == expected.hits


def test_what_its_own_search_read_is_not_new(bundled: Model, svds: SvdCache, harmful: Mask) -> None:
    """The mask says that it was made on the splits of the paper, which share twins with the test split."""
    published = harmful.model_copy(
        update={"provenance": harmful.provenance.model_copy(update={"splits": "published", "task_digest": None})}
    )
    fresh, read = (conducted(bundled, svds, mask) for mask in (harmful, published))
    assert fresh.seen.prompts == 0
    assert read.seen.prompts + read.seen.twins > 0
    assert read.seen.new_cases is None or read.seen.new_cases.masked.n < len(TASK.test)


def test_it_is_no_search_to_go_on_with(bundled: Model, svds: SvdCache, harmful: Mask, tmp_path: Path) -> None:
    conducted(bundled, svds, harmful, path=tmp_path)
    assert earlier(JournalFile(tmp_path / "searches.sqlite", lambda told: pytest.fail(told)), bundled, TASK) == ()


def test_what_cannot_be_is_refused(bundled: Model, svds: SvdCache, harmful: Mask) -> None:
    with pytest.raises(SettingsError, match="removes nothing"):
        given_request(empty_mask(bundled))
    with pytest.raises(SettingsError, match="leave out the repeats"):
        given_request(harmful, EvidenceChoice(repeats=2))


def test_command_and_python_give_one_report(bundled: Model, harmful: Mask, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    harmful.save(path)
    words = ("mask", "evidence", "--model", "bundled", "--mask", path, "--task", "int-mult", "--limit", LIMIT)
    told = commands.run(*words, "--nulls", "all", "--controls", 2, "--test-limit", 12, "--text", "none", "--json")
    assert told.exit_code == 0, told.stderr
    found = json.loads(told.stdout)
    choice = EvidenceChoice(nulls=("shuffled", "rotated", "mean-only"))
    own = ep.load("bundled").evidence(harmful, TASK, choice, controls=2, test_limit=12, limit=LIMIT)
    own_evidence = own.file.evidence
    assert own_evidence is not None
    assert found["evidence"]["rivals"]["mean-only"]["loss"] == list(own_evidence.rivals["mean-only"].loss)
    assert (found["test"]["loss"], found["test"]["n"]) == (own.test.mean_loss.value, 12)
    assert found["strategy"] == "given"
    shown = commands.run(*words, "--controls", 2, "--test-limit", 12, "--text", "none")
    assert "bundled on int-mult: given" in shown.stdout


def test_bad_input_is_a_sentence(bundled: Model, harmful: Mask, tmp_path: Path) -> None:
    path, empty, other = (tmp_path / name for name in ("m.json", "empty.json", "other.json"))
    harmful.save(path)
    empty_mask(bundled).save(empty)
    identity = harmful.model.model_copy(update={"digest": "sha256:" + "0" * 64, "weights": "sha256:" + "1" * 64})
    harmful.model_copy(update={"model": identity}).save(other)
    start = ("mask", "evidence", "--model", "bundled", "--task", "int-mult", "--mask")
    for words, sentence in (
        ((empty,), "removes nothing"),
        ((other,), "the mask was made for"),
        ((path, "--nulls", "nothing"), "is not a null"),
    ):
        done = commands.run(*start, *words)
        assert done.exit_code, words
        assert "Traceback" not in done.stderr
        assert sentence in done.stderr, done.stderr
