"""The report of a search: the same inputs give the same one, its figures are those of plain measurements, and its file
and page say what it says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from explorer.core.columns import cells
from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import Kind
from explorer.core.texts import range_text
from explorer.masks.apply import apply
from explorer.masks.damage import damage
from explorer.masks.mask import load_mask
from explorer.measure.evaluate import evaluate
from explorer.measure.figures import ShareFigures
from explorer.measure.paired import mcnemar
from explorer.models import Model
from explorer.models.matrices import matrices
from explorer.plots.search import HeldOut, TriedMask, explain_curve, held_out, search_controls, search_curve
from explorer.plots.search_page import search_page
from explorer.search import SEARCHES
from explorer.search.columns import change_text, measured_columns, measured_rows
from explorer.search.ensemble import BASES
from explorer.search.learned import LearnedSettings, learned
from explorer.search.outcome import Budget
from explorer.search.problem import Problem
from explorer.search.report import Evidence, Report, search
from explorer.search.report_file import SearchFile, load_report
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Task, load_task
from tests import commands

TASK = load_task("int-mult", 0)
HOSTILE = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def svds() -> SvdCache:
    return SvdCache(None)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of `learned`, on its own and within `ensemble`."""

    def quick(problem: Problem) -> None:
        learned(problem, LearnedSettings(steps=20))

    monkeypatch.setitem(SEARCHES, "learned", quick)
    monkeypatch.setitem(BASES, "learned", quick)


def run(model: Model, svds: SvdCache, name: str = "verified", task: Task = TASK, **given: Any) -> Report:
    view = model.view()
    problem = Problem(view, task, svds, matrices(view, (Kind.Q, Kind.K), [0]), Budget(8), limit=16)
    found = search(problem, task, name, SEARCHES[name], evidence=Evidence(**{"control_draws": 2, **given}))
    assert view.applied == {}
    return found


@pytest.fixture(scope="module")
def whole(bundled: Model, svds: SvdCache) -> Report:
    """A report with everything in it."""
    others = [load_task("int-sum", 0)]
    words = " ".join(f"{i} + {i}" for i in range(60))
    return run(bundled, svds, test_limit=24, others=others, text=words)


@pytest.fixture(scope="module")
def file(whole: Report) -> SearchFile:
    return whole.file


def without_seconds(report: Report) -> dict[str, Any]:
    return {name: value for name, value in json.loads(report.file.to_json()).items() if name != "seconds"}


def test_the_same_inputs_give_the_same_report(bundled: Model, svds: SvdCache) -> None:
    first, again = (run(bundled, svds, test_limit=10, text="1 2 3 4 5 6 7 8") for _ in range(2))
    assert without_seconds(first) == without_seconds(again)
    assert len(first.mask) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SEARCHES))
def test_no_strategy_sees_the_test_split(bundled: Model, svds: SvdCache, name: str) -> None:
    poison = tuple(Example(one.prompt, " 0" if one.answer != " 0" else " 1") for one in TASK.train[:7])
    honest = run(bundled, svds, name, control_draws=0, test_limit=5)
    poisoned = run(bundled, svds, name, replace(TASK, test=poison), control_draws=0)
    assert poisoned.mask.digest == honest.mask.digest
    assert poisoned.found == honest.found
    assert poisoned.forwards == honest.forwards
    assert poisoned.test.examples == poison
    assert len(honest.found.curve) > 1


def test_the_figures_are_those_of_plain_measurements(bundled: Model, svds: SvdCache, whole: Report) -> None:
    view = bundled.view()
    baseline = evaluate(view, TASK, "test", limit=24)
    apply(view, whole.mask, svds)
    test = evaluate(view, TASK, "test", limit=24)
    assert (whole.baseline, whole.test) == (baseline, test)
    assert whole.train == evaluate(view, TASK, "train", limit=16)
    assert whole.validation == evaluate(view, TASK, "validation")
    found = whole.as_dict()
    assert found["comparison"]["accuracy_test"] == vars(mcnemar(test.correct, baseline.correct))
    change = found["comparison"]["loss_change"]
    expected = sum(now - then for now, then in zip(test.loss, baseline.loss, strict=True)) / 24
    assert change["value"] == pytest.approx(expected)
    assert change["interval"][0] <= change["value"] <= change["interval"][1]
    for control in whole.controls.values():
        assert all(one.examples == test.examples for one in control.runs), "the same examples for all"
    assert found["test"]["n"] == found["baseline"]["n"] == found["test_limit"] == 24
    plain = damage(bundled.view(), whole.mask, svds, [load_task("int-sum", 0)], limit=24)
    assert found["damage"]["tasks"] == plain.as_dict()["tasks"]
    assert found["damage"]["text"]["masked"]["tokens"] > 100


def test_the_required_keys_are_there(whole: Report) -> None:
    found = whole.as_dict()
    required = "strategy removed train validation test baseline controls forwards seconds seed versions"
    assert set(required.split()) <= set(found)
    for split in ("train", "validation", "test", "baseline"):
        assert {"n", "accuracy", "accuracy_interval", "loss"} <= set(found[split])
    for name, control in found["controls"].items():
        draws = 2 if name.startswith("random") else 1
        assert control["draws"] == len(control["accuracy"]) == draws
        assert set(control["percentile"]) == {"accuracy", "loss"}


@pytest.mark.parametrize("where", ["its own", "another"])
def test_a_test_split_that_cannot_be_measured_is_refused_before_the_search(
    bundled: Model, svds: SvdCache, where: str
) -> None:
    view = bundled.view()
    long = replace(TASK, test=(*TASK.test[:3], Example("7 " * (view.config.n_ctx + 1), " 1")))
    task, others = (long, ()) if where == "its own" else (TASK, (long,))
    problem = Problem(view, task, svds, matrices(view, (Kind.Q,), [0]), Budget(1), limit=2)
    with pytest.raises(TaskError, match="shorten it"):
        search(problem, task, "none", lambda posed: pytest.fail("searched"), evidence=Evidence(others=others))


def test_the_mask_says_how_it_was_found(whole: Report) -> None:
    made = whole.mask.provenance
    assert (made.task, made.task_digest, made.shots, made.template) == ("int-mult", TASK.digest, 0, None)
    assert (made.strategy, made.scorer, made.split, made.examples, made.seed) == (
        "verified",
        "gradient",
        "train",
        16,
        0,
    )


def test_a_mask_that_removes_nothing_has_no_controls_and_no_damage(bundled: Model, svds: SvdCache) -> None:
    def nothing(problem: Problem) -> None:
        problem.start()

    view = bundled.view()
    problem = Problem(view, TASK, svds, matrices(view, (Kind.Q,), [0]), Budget(1), limit=4)
    found = search(problem, TASK, "nothing", nothing, evidence=Evidence(test_limit=1, text="1 2 3 4"))
    assert (found.controls, found.damage, len(found.mask)) == ({}, None, 0)
    assert found.comparison.loss_change.value == 0
    file = found.file
    assert math.isnan(file.test.loss_stderr), "one example has no spread"
    assert json.loads(file.to_json())["test"]["loss_stderr"] is None
    assert "None were drawn." in search_page(file)
    with pytest.raises(TaskError, match="empty"):
        search(problem, replace(TASK, test=()), "nothing", nothing)


def test_a_file_comes_back_as_it_was(file: SearchFile, tmp_path: Path) -> None:
    path = file.save(tmp_path / "deep" / "folder")
    assert path.name == "report.json"
    assert load_report(path) == load_report(path.parent) == file
    assert file.curve[0].removed == 0
    assert {(one.removed, one.validation.loss) for one in file.curve} >= {(file.removed, file.validation.loss)}


def test_a_file_of_an_earlier_version_is_read_with_every_value() -> None:
    path = Path(__file__).parents[2] / "data" / "search-report.json"
    found = load_report(path)
    today, before = json.loads(found.to_json()), json.loads(path.read_text(encoding="utf-8"))
    assert today["settings"].pop("compute") is None, "an earlier version had one type for everything"
    added = {name: today.pop(name) for name in ("splits", "hold_out", "wordings", "only", "seen", "growth", "evidence")}
    nothing = dict.fromkeys(("hold_out", "only", "seen", "growth", "evidence"))
    assert added == {"splits": "published", **nothing, "wordings": 1}
    assert today == before
    assert found.damage is not None
    assert found.controls["random-per-matrix"].draws == len(found.controls["random-per-matrix"].accuracy) == 3


def test_terminal_and_page_show_the_same_tables(file: SearchFile, tmp_path: Path) -> None:
    file.save(tmp_path)
    shown = "".join(commands.run("report", tmp_path).stdout.split())
    page = " ".join(Page(search_page(file)).texts)
    said = (
        *(one for row in cells(measured_columns(file.baseline), measured_rows(file)) for one in row[1:]),
        change_text(file.comparison),
    )
    assert len(said) == (4 + 2 * 1) * 2 + 1, "four evaluations, and two of the test examples with new answers"
    for text in said:
        assert text in page
    assert "".join(said[-1].split()) in shown
    for name, control in file.controls.items():
        assert name in page
        assert range_text(control.accuracy) in page


Break = Callable[[dict[str, Any]], Any]
BROKEN: dict[str, tuple[Break, str]] = {
    "no curve": (lambda found: found.pop("curve"), r"Field required \(at curve\)"),
    "an empty curve": (lambda found: found.update(curve=[]), r"at least 1 item.* \(at curve\)"),
    "another format": (lambda found: found.update(format="other"), r"'eigenprune-search-report' \(at format\)"),
    "a later version": (lambda found: found.update(schema_version=2), r"\(at schema_version\)"),
    "something more": (lambda found: found.update(extra=1), r"Extra inputs are not permitted \(at extra\)"),
    "an accuracy above 1": (lambda found: found["test"].update(accuracy=1.5), r"less than or equal to 1 \(at test.acc"),
    "a text for a number": (lambda found: found["test"].update(n="24"), r"valid integer \(at test.n\)"),
    "draws that are missing": (
        lambda found: found["controls"]["smallest"].update(accuracy=[]),
        r"1 draws have 0 accuracies and 1 losses \(at controls.smallest\)",
    ),
    "another mask": (lambda found: found["mask"]["removed"].pop(), "not the one that the report is about"),
    "a broken mask": (lambda found: found["mask"].update(mode="mean"), r"\(at mask.mode\)"),
}


@pytest.mark.parametrize("change", list(BROKEN))
def test_a_file_that_was_changed_is_refused_with_the_place(file: SearchFile, tmp_path: Path, change: str) -> None:
    content = json.loads(file.to_json())
    alter, message = BROKEN[change]
    alter(content)
    (tmp_path / "report.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        load_report(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_report_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(SettingsError, match="not a usable search report"):
        load_report(tmp_path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_report(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_report(tmp_path / "file" / "report.json")


class Page(HTMLParser):
    """Text in the page, its tags, and everything that would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if not self._script:
            self.texts.append(data)
        elif self.scripts:
            self.scripts[-1] += data


def test_the_page_holds_everything_and_loads_nothing(file: SearchFile) -> None:
    text = search_page(file)
    assert search_page(file) == text, "the same report, the same page"
    page = Page(text)
    assert page.loads == []
    assert "default-src 'none'" in text
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1, "plotly.js once"
    shown = " ".join(page.texts)
    assert re.search(r"prefers-color-scheme: dark", text)
    for words in (
        "int-mult",
        "verified",
        file.mask_digest,
        file.model_digest,
        "random-energy",
        "int-sum",
        "Perplexity",
    ):
        assert words in shown
    assert f"{100 * file.test.accuracy:.1f} %" in shown
    assert "at most 24 examples" in shown
    for key, removed in file.mask.by_matrix.items():
        assert str(key) in shown
        assert ", ".join(str(one.index) for one in removed) in shown


def test_page_and_curve_name_what_accuracy_counts(file: SearchFile) -> None:
    told = search_page(file)
    assert '<th scope="col">accuracy [95 % interval]</th><th scope="col">loss per example</th>' in told
    rules = {rule: ShareFigures(n=20, accuracy=0.5, accuracy_interval=(0.1, 0.9)) for rule in ("sum", "mean")}
    changed = {
        "metric": "choice",
        "exact": ShareFigures(n=20, accuracy=0.25, accuracy_interval=(0.1, 0.4)),
        "choice": rules,
    }
    test = replace(file.test, **changed)
    chosen = search_page(replace(file, test=test, baseline=test))
    columns = ("accuracy (choice) [95 % interval]", "exact match", "loss per example")
    assert "".join(f'<th scope="col">{name}</th>' for name in columns) in chosen
    assert "<td>25.0 %</td>" in chosen
    assert '"Accuracy (choice) on the way"' in chosen
    assert '"Accuracy (choice) on test"' in chosen


def test_the_page_escapes_what_a_file_says(file: SearchFile) -> None:
    hostile = replace(
        file,
        strategy=HOSTILE,
        task=HOSTILE,
        model=HOSTILE,
        template=HOSTILE,
        versions={HOSTILE: HOSTILE},
        controls={HOSTILE: file.controls["smallest"]},
    )
    text = search_page(hostile)
    assert "<script>alert(1)" not in text
    plain, page = Page(search_page(file)), Page(text)
    assert len(page.scripts) == len(plain.scripts)
    assert HOSTILE in " ".join(page.texts)


def test_the_curve_joins_the_best_mask_of_every_size() -> None:
    points = [TriedMask(0, 3.0, 3.0), TriedMask(2, 2.0, 2.5), TriedMask(2, 2.2, 2.0), TriedMask(5, None, 2.2)]
    figure = search_curve(points, points[2], "loss")
    assert figure.layout.modebar.bgcolor == figure.layout.paper_bgcolor, "a box behind the buttons"
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert [list(line.x) for line in lines] == [[0, 2, 5]] * 2
    assert [list(line.y) for line in lines] == [[3.0, 2.2, None], [3.0, 2.0, 2.2]]
    chosen = next(trace for trace in figure.data if trace.name == "chosen")
    assert (list(chosen.x), list(chosen.y)) == ([2], [2.0])
    shares = search_curve([TriedMask(1, 0.1, 0.2), TriedMask(1, 0.0, 0.6)], points[0], "accuracy")
    assert [list(trace.y) for trace in shares.data if trace.mode == "lines"] == [[0.0], [0.6]]


def test_a_mask_beyond_the_budget_is_marked_and_not_joined() -> None:
    points = [TriedMask(0, 3.0, 3.0), TriedMask(2, 2.0, 2.5), TriedMask(2, 1.0, 1.5, within=False)]
    figure = search_curve(points, points[1], "loss")
    assert [list(trace.y) for trace in figure.data if trace.mode == "lines"] == [[3.0, 2.0], [3.0, 2.5]]
    validation = next(trace for trace in figure.data if trace.name == "validation")
    assert list(validation.marker.symbol) == ["circle", "circle", "triangle-up-open"]
    assert "beyond the budget" in explain_curve(points, None)
    assert "beyond" not in explain_curve(points[:2], None)


def test_the_chosen_mask_stands_among_its_random_controls() -> None:
    points = [TriedMask(0, 3.0, 3.0), TriedMask(4, 2.0, 2.5)]
    on_test = HeldOut(2.6, 3.1, (3.2, None, 2.9))

    def on(chosen: TriedMask, drawn: HeldOut | None) -> dict[str, tuple[list[float], list[float | None]]]:
        figure = search_curve(points, chosen, "loss", drawn)
        return {one.name: (list(one.x), list(one.y)) for one in figure.data if (one.name or "").endswith("test")}

    assert on(points[1], on_test) == {
        "random-per-matrix, test": ([4, 4, 4], [3.2, None, 2.9]),
        "unpruned, test": ([0], [3.1]),
        "chosen, test": ([4], [2.6]),
    }
    assert on(points[1], None) == {}
    assert on(points[0], HeldOut(3.1, 3.1, ())) == {"unpruned, test": ([0], [3.1])}, "nothing is removed"
    assert "drawn at random" in explain_curve(points, on_test)
    assert "random" not in explain_curve(points, replace(on_test, random=()))


def test_what_was_measured_on_test_is_the_reports(file: SearchFile) -> None:
    control = file.controls["random-per-matrix"]
    assert held_out(file, "accuracy") == HeldOut(file.test.accuracy, file.baseline.accuracy, control.accuracy)
    assert held_out(file, "loss").random == control.loss
    assert held_out(replace(file, controls={}), "loss").random == ()


def test_controls_are_points_with_lines_at_the_mask_and_the_unpruned_model() -> None:
    figure = search_controls({"<b>": [0.1, 0.2], "largest": [0.4]}, 0.9, 0.05, "accuracy")
    assert [list(trace.x) for trace in figure.data] == [[0.1, 0.2], [0.4]]
    assert figure.data[0].y[0] == "&lt;b&gt;"
    assert [shape.x0 for shape in figure.layout.shapes] == [0.9, 0.05]
    assert [note.text for note in figure.layout.annotations] == ["this mask", "unpruned"]


# ------------------------------------------------------------------------------------------------- command line


SEARCH = ("search", "--model", "bundled", "--task", "int-mult", "--kinds", "Q,K", "--layers", "0", "--limit", "16")
SMALL = ("--max-removed", "6", "--controls", "1", "--test-limit", "12", "--strategy", "paper")


def test_the_command_writes_the_report_and_shows_it_again(tmp_path: Path, isolated_folders: Path) -> None:
    places = ("--out", tmp_path / "m.json", "--report", tmp_path / "found")
    said = commands.report(*SEARCH, *SMALL, *places, "--also", "int-sum", "--fresh")
    again = commands.report("report", tmp_path / "found")
    assert again["mask_digest"] == said["mask_digest"] == load_mask(tmp_path / "m.json").digest
    for name in set(said) - {"out", "report"}:
        assert again[name] == said[name], name
    assert said["task_digest"] == TASK.digest
    assert [one["task"] for one in said["damage"]["tasks"]] == ["int-sum"]
    assert said["damage"]["text"] is None, "the bundled model reads no prose"
    page = (tmp_path / "found" / "report.html").read_text(encoding="utf-8")
    result = commands.run("report", tmp_path / "found" / "report.json", "--html", tmp_path / "again.html")
    assert result.exit_code == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    for words in ("McNemar p = ", "Controls of the same size", "at most 12 examples", "int-sum: ", "again.html"):
        assert words in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--strategy", "random-search"), {}),
        (("--strategy", "paper", "--per-kind"), {"per_kind": True}),
        (
            ("--strategy", "ensemble", "--over", "seeds", "--base", "adaptive", "--members", "2", "--at-least", "1"),
            {"base": "adaptive", "resamples": 2, "at_least": 1, "over": "seeds"},
        ),
        (("--strategy", "ensemble", "--over", "int-sum"), {"tasks": [["int-sum", load_task("int-sum", 4).digest]]}),
    ],
)
def test_the_command_takes_the_options_of_a_strategy(
    tmp_path: Path, isolated_folders: Path, options: tuple[str, ...], told: dict[str, Any]
) -> None:
    places = ("--out", tmp_path / "m.json", "--report", tmp_path / "found")
    few = ("--max-removed", "2", "--controls", "0", "--test-limit", "4", "--text", "none", "--seed", str(len(options)))
    said = commands.report(*SEARCH, *few, *options, *places)
    assert said["strategy"] == options[1]
    assert said["settings"]["options"] == told
    assert said["removed"] <= 2
    page = (tmp_path / "found" / "report.html").read_text(encoding="utf-8")
    assert ("options" in page.split("How it was found")[1]) == bool(told)
    other = commands.run(*SEARCH, *few, "--strategy", options[1], "--out", tmp_path / "o.json")
    assert ("Resuming" in other.stderr) == (not told), "other options are another search"


@pytest.mark.slow
def test_the_command_says_that_it_resumes(tmp_path: Path, isolated_folders: Path) -> None:
    words = (*SEARCH, *SMALL, "--out", tmp_path / "m.json")
    first = commands.report(*words, "--fresh")
    result = commands.run(*words, "--json")
    assert re.search(r"Resuming: \d+ scores and measurements of \d+ s are there already; --fresh", result.stderr)
    again = json.loads(result.stdout)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    assert "Resuming" not in commands.run(*words, "--fresh").stderr
    kept = commands.report("cache", "info")
    assert kept["searches"] >= 1
    assert kept["searches_bytes"] > 0
    cleared = commands.report("cache", "clear")
    assert (cleared["searches"], cleared["searches_removed"]) == (0, kept["searches"])
    assert "Resuming" not in commands.run(*words).stderr


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, isolated_folders: Path) -> None:
    out = ("--out", tmp_path / "m.json")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in commands.refused(*SEARCH, *SMALL, *out, "--report", tmp_path / "file")
    assert "is not a scorer" in commands.refused(*SEARCH, *SMALL, *out, "--scorer", "best")
    assert "--report" in commands.refused(*SEARCH, *SMALL, *out, "--as-released", "--report", tmp_path / "found")
    assert "cannot be read" in commands.refused(*SEARCH, *SMALL, *out, "--text", tmp_path / "none.txt")
    assert "cannot be read" in commands.refused("report", tmp_path / "nothing")
    assert not (tmp_path / "m.json").exists()
