"""Tasks whose data a session has given are offered wherever other tasks are measured, and their commands carry it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.masks.damage import damage
from explorer.masks.library import Library
from explorer.tasks import load_task, parse
from tests.pages.app import Engine, captions, choose, click, copied, go, mask_in, open_page, upload_task
from tests.pages.app import settled as settle
from tests.pages.test_masks import select

LINES = "\n".join(json.dumps({"prompt": f"{i} x {j} =", "answer": f" {i * j}"}) for i in range(2, 9) for j in range(9))


@pytest.fixture
def superglue(tmp_path: Path) -> Path:
    """A folder that holds COPA only."""
    row = {"premise": "w1", "choice1": "w2", "choice2": "w3", "question": "cause", "label": 0}
    (tmp_path / "copa").mkdir()
    for split in ("train", "validation"):
        lines = [json.dumps({**row, "premise": f"{split} {i}"}) for i in range(10)]
        (tmp_path / "copa" / f"{split}.jsonl").write_text("\n".join(lines))
    return tmp_path


def given(app: AppTest, folder: str) -> AppTest:
    """The session after its user has typed a folder for COPA and gone back to int-mult."""
    app.selectbox(key="task").set_value("copa").run()
    app = settle(app.text_input(key="superglue").set_value(folder).run())
    return settle(app.selectbox(key="task").set_value("int-mult").run())


def offered(app: AppTest) -> list[str]:
    return list(app.multiselect(key="damage-tasks").options)


def test_superglue_is_offered_from_its_folder_only(engine: Engine, superglue: Path) -> None:
    app = open_page("Prune", section="elsewhere")
    assert "copa" not in offered(app)
    app = click(given(app, str(superglue)), "remove-lowest")
    assert {"copa", "rte", "cb"} & set(offered(app)) == {"copa"}
    app = settle(app.multiselect(key="damage-tasks").set_value(["copa", "int-sum"]).run())
    code = copied(app, "damage")
    words = shlex.split(code.commands[0])
    assert words[words.index("--data") + 1] == str(superglue)
    assert f"TasksChoice(data=Path('{superglue}'), task=('copa', 'int-sum',))" in code.python[0]
    (frame,) = (one.value for one in click(app, "damage").dataframe if "task" in one.value.columns)
    copa, int_sum = (load_task("copa", data=superglue), load_task("int-sum"))
    found = damage(engine.view, mask_in(app), engine.svds, [copa, int_sum], split="validation", limit=128).tasks
    assert list(frame["task"]) == ["copa", "int-sum"]
    assert list(frame["n"]) == [one.comparison.masked.n for one in found]
    assert list(frame["loss change"]) == pytest.approx([one.comparison.loss_change.value for one in found], abs=1e-6)
    app = given(app, "")
    assert "copa" not in offered(app)
    assert app.multiselect(key="damage-tasks").value == ["int-sum"]
    assert "--data" not in copied(app, "damage").commands[0]


def test_an_uploaded_file_stays_at_hand_when_another_task_is_chosen(engine: Engine) -> None:
    app = upload_task(open_page("Prune", section="elsewhere"), LINES, name="own.jsonl")
    assert "own.jsonl" not in offered(app)  # it is the page's task
    app = click(settle(app.selectbox(key="task").set_value("int-mult").run()), "remove-lowest")
    app = settle(app.multiselect(key="damage-tasks").set_value(["own.jsonl"]).run())
    app = click(app, "damage")
    (frame,) = (one.value for one in app.dataframe if "task" in one.value.columns)
    task = parse(LINES.encode(), name="own.jsonl", seed=0)
    found = damage(engine.view, mask_in(app), engine.svds, [task], split="validation", limit=128).tasks[0].comparison
    assert (frame["task"][0], frame["n"][0]) == ("own.jsonl", found.masked.n)
    assert frame["masked accuracy"][0] == pytest.approx(100 * found.masked.accuracy)
    app.session_state["copy-damage"] = True
    app = settle(app.run())
    assert "Run it in the folder of own.jsonl." in captions(app)
    assert any("--task own.jsonl" in one.value for one in app.code)


@pytest.mark.usefixtures("empty_library")
def test_files_that_were_given_are_offered_with_the_newest_of_each_name() -> None:
    app = open_page("Prune", section="elsewhere")
    for more, name in enumerate(("a.jsonl", "b.jsonl", "a.jsonl", "c.jsonl")):
        app = upload_task(app, LINES + f'\n{{"prompt": "{more} + 1 =", "answer": " {more + 1}"}}', name=name)
        app = settle(app.selectbox(key="task").set_value("int-mult").run())
    app = upload_task(app, LINES, name="d.jsonl")
    files = ["c.jsonl", "a.jsonl", "b.jsonl"]
    assert [one for one in offered(app) if one.endswith(".jsonl")] == files
    elsewhere = open_page("Prune", section="elsewhere")  # another session finds them in the workspace
    assert [one for one in offered(elsewhere) if one.endswith(".jsonl")] == ["d.jsonl", *files]


def test_the_masks_page_has_them_too(engine: Engine, superglue: Path) -> None:
    Library.default().save(engine.lowest(engine.scores(), 2), "two")
    app = upload_task(given(open_page(), str(superglue)), LINES, name="own.jsonl")
    app = settle(app.selectbox(key="task").set_value("int-mult").run())
    app = select(go(app, "Masks"), 0)
    assert {"copa", "own.jsonl"} <= set(app.multiselect(key="other-tasks").options)
    app = settle(app.multiselect(key="other-tasks").set_value(["copa", "own.jsonl"]).run())
    assert f"--data {superglue}" in copied(app, "elsewhere").commands[0]
    for name, word in (("copa", f"--data {superglue}"), ("own.jsonl", "--task own.jsonl")):
        app = choose(app, "transfer-task", name)
        assert word in copied(app, "transfer").commands[0]
