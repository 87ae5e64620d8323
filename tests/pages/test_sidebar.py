"""The sidebar: models, tasks, mask files, and sessions that keep apart. Bad input is one sentence; nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.core.config import settings
from explorer.export import EXPORTS
from explorer.masks.mask import MAX_BYTES, Mask
from explorer.models import Model
from explorer.tasks import Example, Task, load_task, parse_jsonl
from explorer.ui.components import words
from explorer.ui.jobs import cached
from explorer.ui.session.notices import notices
from explorer.ui.session.session import Bench
from explorer.ui.shell.task_choice import UPLOADED
from tests import tiny
from tests.pages.app import (
    APP,
    SECONDS,
    Engine,
    captions,
    choose,
    click,
    figures,
    go,
    held,
    mask_in,
    open_page,
    plain,
    removed_line,
    sentences,
    settled,
    token,
    upload,
    upload_task,
)

LINES = [json.dumps({"prompt": f"{i} x {j} =", "answer": f" {i * j}"}) for i in range(2, 8) for j in range(2, 8)]


def encoded(mask: Mask) -> bytes:
    return EXPORTS["mask"].encode(mask)


# ---- mask files


def test_an_uploaded_mask_is_measured_and_can_be_undone(engine: Engine, scores: Scores) -> None:
    expected = engine.lowest(scores, 6)
    app = upload(open_page("Prune"), encoded(expected))
    assert mask_in(app) == expected
    found = engine.compare(expected).masked
    assert figures(app)["Accuracy, validation"] == words.percent(found.accuracy)
    assert figures(app)["Loss, validation"] == f"{found.mean_loss.value:.3f} nats"
    assert removed_line(app).startswith("6 removed in ")
    assert len(mask_in(click(app, "undo"))) == 0


def test_an_uploaded_file_is_taken_once(engine: Engine, scores: Scores) -> None:
    app = upload(open_page("Prune"), encoded(engine.lowest(scores, 6)))
    app = click(app, "restore-all")
    app = go(settled(app.run()), "Spectra")
    assert removed_line(app) == "0 removed"
    app = upload(app, encoded(engine.lowest(scores, 3)))  # the place is free for the next one
    assert removed_line(app).startswith("3 removed")


def test_a_mask_of_the_other_mode_brings_its_mode(engine: Engine) -> None:
    zero = engine.lowest(engine.scores(mode="zero"), 3)
    app = upload(open_page("Prune"), encoded(zero))
    assert app.button_group(key="mode").value == "zero"
    assert mask_in(app) == zero


def changed(mask: Mask, change: Callable[[dict[str, Any]], Any]) -> bytes:
    raw = json.loads(encoded(mask))
    change(raw)
    return json.dumps(raw).encode()


BAD_MASKS: list[tuple[str, Callable[[Mask], bytes], str]] = [
    ("malformed", lambda mask: b"not JSON", "is not a usable mask file: Invalid JSON"),
    ("truncated", lambda mask: encoded(mask)[:300], "is not a usable mask file: Invalid JSON"),
    ("not UTF-8", lambda mask: b"\xff\xfe{", "is not a usable mask file"),
    ("another format", lambda mask: changed(mask, lambda raw: raw.update(format="x")), "format"),
    ("version", lambda mask: changed(mask, lambda raw: raw.update(schema_version=99)), "schema_version"),
    (
        "foreign model",
        lambda mask: changed(
            mask, lambda raw: raw["model"].update(source="![x](http://e.example/x.png)", digest=OTHER)
        ),
        "the mask was made for ![x](http://e.example/x.png)",
    ),
    (
        "another sigma",
        lambda mask: changed(mask, lambda raw: raw["removed"][0].update(sigma=raw["removed"][0]["sigma"] + 1)),
        "it was made from other weights",
    ),
    ("index", lambda mask: changed(mask, lambda raw: raw["removed"][-1].update(index=5000)), "the mask removes 5000"),
    ("layer", lambda mask: changed(mask, lambda raw: raw["removed"][0].update(matrix="L77.Q")), "layer 77 is out of"),
    ("head", lambda mask: changed(mask, lambda raw: raw["removed"][0].update(matrix="L0.K.H40")), "L0.K.H40"),
    ("oversized", lambda mask: b" " * (MAX_BYTES + 1), f"mask files have at most {MAX_BYTES:,}"),
]
OTHER = "sha256:" + "0" * 64


@pytest.mark.parametrize(("make", "reason"), [case[1:] for case in BAD_MASKS], ids=[case[0] for case in BAD_MASKS])
def test_a_bad_mask_is_a_sentence_and_the_mask_is_kept(
    engine: Engine, scores: Scores, make: Callable[[Mask], bytes], reason: str
) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    before, shown = mask_in(app), figures(app)
    app = upload(app, make(engine.lowest(scores, 2)), name="my <b>mask</b>.json")
    (sentence,) = sentences(app)
    assert reason in sentence
    assert sentence.endswith("Your mask is as it was.")
    assert mask_in(app) == before
    assert figures(app) == shown
    assert not any("![" in error.value or "<b>" in error.value for error in app.error)  # shown as text, not as markup
    app = upload(app, encoded(engine.lowest(scores, 2)))
    assert not sentences(app)
    assert len(mask_in(app)) == 2


def test_per_head_and_stacked_in_one_file_is_a_sentence(engine: Engine, scores: Scores) -> None:
    mask = engine.lowest(scores, 2)
    stacked = {**json.loads(encoded(mask))["removed"][0], "matrix": str(mask.removed[0].key.stacked)}
    app = upload(open_page("Prune"), changed(mask, lambda raw: raw["removed"].append(stacked)))
    (sentence,) = sentences(app)
    assert "overlap" in sentence
    assert removed_line(app) == "0 removed"


# ---- tasks


def test_an_uploaded_task_is_scored_and_measured(engine: Engine) -> None:
    app = upload_task(open_page("Prune"), "\ufeff" + "\n".join(LINES) + "\n\n")
    task = parse_jsonl(LINES, name="task.jsonl", seed=settings().seed)
    app = click(app, "remove-lowest")
    scores = engine.scores(task)
    assert mask_in(app).removed == engine.lowest(scores, 4).removed
    assert mask_in(app).provenance.task == "task.jsonl"
    found = engine.compare(mask_in(app), task).masked
    assert figures(app)["Accuracy, validation"] == words.percent(found.accuracy)
    assert f"n = {len(task.validation)}" in captions(app)
    for title in ("Overview", "Spectra", "Activations"):
        assert removed_line(go(app, title)).startswith("4 removed")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "2 x 3 ="}\n', "line 1: no answer"),
        ("\n".join([*LINES, '{"prompt": "", "answer": " 1"}']), f"line {len(LINES) + 1}: no prompt"),
        ("[1]\n", "line 1: a list instead of an object"),
        ("what\n", "line 1: not a JSON object"),
        ("\n", "holds no examples"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ('{"prompt": "a", "answer": " b", "![x](http://e=e)": 1}', "called '![x](http://e=e)'"),
    ],
)
def test_a_bad_task_file_is_a_sentence_and_the_mask_is_kept(content: str | bytes, reason: str) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    before = mask_in(app)
    app = upload_task(app, content)
    (sentence,) = sentences(app)
    assert reason in sentence
    assert "](" not in app.error[0].value.replace("\\]", "")
    assert removed_line(app).startswith("4 removed")
    app.selectbox(key="task").set_value("int-mult")
    assert mask_in(settled(app.run())) == before


def test_a_task_that_this_model_cannot_take_is_a_sentence() -> None:
    long = [json.dumps({"prompt": f"{i} + " + "1 + " * 500 + "1 =", "answer": " 7"}) for i in range(10)]
    app = upload_task(click(open_page("Prune"), "remove-lowest"), "\n".join(long))
    assert sentences(app)
    assert all("tokens: this model reads 1 to" in sentence for sentence in sentences(app))
    assert removed_line(app).startswith("4 removed")


def test_before_a_task_file_is_chosen_the_page_says_what_to_do() -> None:
    app = open_page("Overview")
    app = settled(app.selectbox(key="task").set_value(UPLOADED).run())
    assert [info.value for info in app.info] == ["Choose a task file in the sidebar to go on."]


def test_shots_and_a_template_are_measured_as_the_engine_measures_them(engine: Engine) -> None:
    app = open_page("Prune")
    app.number_input(key="shots-int-mult").set_value(2)
    app = settled(app.text_area(key="template-int-mult").set_value("{i} + {j} =").run())
    task = load_task("int-mult", shots=2, template="{i} + {j} =")
    found = engine.compare(mask_in(click(app, "remove-lowest")), task).baseline
    app = click(app, "restore-all")
    assert figures(app)["Loss, validation"] == f"{found.mean_loss.value:.3f} nats"
    app.text_area(key="template-int-mult").set_value("{k} =")
    (sentence,) = sentences(settled(app.run()))
    assert "asks for {k}: this task has {i}, {j}" in sentence


def test_superglue_comes_from_a_folder(tmp_path: Path) -> None:
    app = open_page("Overview")
    app.selectbox(key="task").set_value("copa").run()
    app = settled(app.text_input(key="superglue").set_value(str(tmp_path)).run())
    assert any("has no copa/train.jsonl" in sentence for sentence in sentences(app))
    assert any("Give a folder of SuperGLUE's JSON lines" in info.value for info in app.info)
    row = {"premise": "w1", "choice1": "w2", "choice2": "w3", "question": "cause", "label": 0}
    (tmp_path / "copa").mkdir()
    for name, count in (("train", 10), ("validation", 4)):
        lines = [json.dumps({**row, "premise": f"{name} {i}"}) for i in range(count)]
        (tmp_path / "copa" / f"{name}.jsonl").write_text("\n".join(lines))
    assert "8 train, 2 validation, 4 test" in captions(settled(app.run()))


def test_a_csv_file_is_a_task_too() -> None:
    lines = ["prompt,answer", *(f"{i} x {j} =, {i * j}" for i in range(2, 8) for j in range(2, 8))]
    app = upload_task(open_page("Prune"), "\n".join(lines), name="own.csv")
    assert "36 examples from own.csv: 26 train, 2 validation, 8 test" in captions(app)
    assert not sentences(app)


# ---- models


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no/such/model/here", "is not there"),
        ("/no/such/folder", "is not there"),
        ("<img src=x>", "is not there"),
        ("a\0b", "is not there"),
    ],
)
def test_an_unknown_model_is_a_sentence_and_the_mask_comes_back(name: str, reason: str) -> None:
    app = open_page("Prune")
    app.button_group(key="split").set_value("test")
    app.selectbox(key="task").set_value("int-sum")
    app.select_slider(key="score_limit-all").set_value(32)
    app.select_slider(key="eval_limit-all").set_value(16)
    app = click(settled(app.run()), "remove-lowest")
    before, shown = mask_in(app), figures(app)
    app = choose(app, "model", name)
    (sentence,) = sentences(app)
    assert reason in sentence
    assert not app.metric
    app = choose(app, "model", "bundled")
    assert mask_in(app) == before
    assert figures(app) == shown  # task, split and limits are as they were, too


def test_a_named_model_that_is_not_here_is_offered(isolated_folders: Path) -> None:
    app = choose(open_page("Overview"), "model", "smollm2-135m")
    assert any("not on this machine yet" in info.value for info in app.info)
    assert app.button(key="fetch").label == "Fetch smollm2-135m"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.save("llama", tmp_path_factory.mktemp("llama")))


def word_task() -> str:
    task: Task = tiny.task()
    rows: list[tuple[str, Example]] = [
        *(("train", one) for one in task.train),
        *(("validation", one) for one in task.validation),
        *(("test", one) for one in task.test),
    ]
    return "\n".join(json.dumps({"prompt": e.prompt, "answer": e.answer, "split": split}) for split, e in rows)


def test_a_model_with_gates_and_then_one_without(llama: str) -> None:
    app = choose(open_page("Spectra"), "model", llama)
    app = upload_task(app, word_task())
    app.button_group(key="spectra-kind").set_value("GATE")
    app = settled(app.run())
    app.selectbox(key="spectra-layer").set_value(1)
    app = settled(app.run())
    assert app.dataframe[0].value["matrix"].tolist() == ["L1.GATE"]
    chosen = next(box for box in app.multiselect if box.label == "Matrices to score")
    assert "GATE" in chosen.options
    chosen.set_value(["GATE"])
    app = click(go(settled(app.run()), "Prune"), "remove-lowest")
    assert {str(key.kind) for key in held(app, Bench).mask.by_matrix} == {"GATE"}
    app.selectbox(key="task").set_value("int-mult")
    app.selectbox(key="model").set_value("bundled")
    app = settled(app.run())
    chosen = next(box for box in app.multiselect if box.label == "Matrices to score")
    assert "GATE" not in chosen.options
    assert removed_line(app) == "0 removed"
    app = go(app, "Spectra")
    assert "GATE" not in app.button_group(key="spectra-kind").options
    assert "GATE" not in app.dataframe[0].value["matrix"].iloc[0]
    assert not sentences(app)
    for title in ("Activations", "Overview"):
        assert not sentences(go(app, title))


def test_each_model_keeps_its_own_mask(llama: str) -> None:
    app = click(open_page("Prune"), "remove-lowest")
    app = choose(app, "model", llama)
    assert removed_line(app) == "0 removed"
    assert removed_line(choose(app, "model", "bundled")).startswith("4 removed")


# ---- sessions


def test_two_sessions_show_their_own_figures_and_the_base_stays_as_it_is(engine: Engine, scores: Scores) -> None:
    model = cached.runner().submit(("model", "bundled", "raw", None), "", lambda progress: None).result
    assert isinstance(model, Model)
    counts = (1, 5)
    apps = [open_page("Prune") for _ in counts]
    for app, count in zip(apps, counts, strict=True):
        app.number_input(key="k").set_value(count)
        click(app, "remove-lowest")
    for _ in range(2):
        for app, count in zip(apps, counts, strict=True):
            settled(app.run())
            found = engine.compare(engine.lowest(scores, count)).masked
            assert len(mask_in(app)) == count
            assert figures(app)["Accuracy, validation"] == words.percent(found.accuracy)
            assert figures(app)["Loss, validation"] == f"{found.mean_loss.value:.3f} nats"
    assert token(apps[0]) != token(apps[1])
    assert model.current_digest() == model.digest


def test_a_reload_restores_the_mask_by_the_token_in_the_url() -> None:
    app = click(open_page("Prune"), "remove-lowest")
    again = open_page("Prune", session=token(app))
    assert mask_in(again) == mask_in(app)
    assert removed_line(open_page("Prune")) == "0 removed"


@pytest.mark.parametrize("given", ["../../../../etc/passwd", "0123456789ab/..", "%2e%2e%2f", "0123456789ABCDEF", "~"])
def test_a_token_that_looks_like_a_path_never_reaches_the_file_system(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[Path] = []
    for name in ("is_file", "stat", "read_bytes", "open", "glob", "touch"):
        original = getattr(Path, name)

        def spy(self: Path, *args: Any, original: Any = original, **options: Any) -> Any:
            touched.append(self)
            return original(self, *args, **options)

        monkeypatch.setattr(Path, name, spy)
    app = click(open_page("Prune", session=given), "remove-lowest")
    assert re.fullmatch("[0-9a-f]{12}", token(app))
    assert touched
    names = [str(path) for path in touched if path.parent.name != "tasks"]  # task files have a ~ in their names
    assert not [name for name in names if given in name or "passwd" in name]


# ---- notices


def test_a_damaged_cache_entry_is_told_to_every_session_once() -> None:
    app = open_page("Overview")
    notices().append("The cached decomposition of `L0.Q` was damaged: such entries are computed again.")
    other = AppTest.from_file(APP, default_timeout=SECONDS)
    for one in (app, other):
        one.run()
        (toast,) = (plain(toast.value) for toast in one.toast if "decomposition" in toast.value)
        assert toast == "The cached decomposition of `L0.Q` was damaged: such entries are computed again."
    assert not app.run().toast
