"""Splits, what is held out, wordings and relations in the sidebar; in links and copied commands."""

from __future__ import annotations

import pytest

from explorer.tasks import Cases, load_task, relations
from explorer.ui.session.session import Bench
from tests.pages.app import copied, held, open_page, settled


def test_the_published_splits_of_a_link_are_measured_linked_and_copied() -> None:
    app = open_page("Scores", splits="published")
    assert app.selectbox(key="splits-int-mult").value == "published"
    assert app.selectbox(key="hold-out-int-mult").disabled
    assert held(app, Bench).task.digest == load_task("int-mult", cases=Cases("published")).digest
    assert any("--splits published" in command for command in copied(app, "ranking").commands)
    app = settled(app.selectbox(key="splits-int-mult").select("twins").run())
    assert "splits" not in app.query_params
    assert held(app, Bench).task.digest == load_task("int-mult").digest
    assert not any("--splits" in command for command in copied(app, "ranking").commands)


def test_what_is_held_out_and_the_wordings_are_chosen_in_the_sidebar() -> None:
    app = open_page("Overview")
    app = settled(app.selectbox(key="hold-out-int-mult").select("operands").run())
    app = settled(app.number_input(key="wordings-int-mult").set_value(2).run())
    cases = Cases(hold_out="operands", wordings=2)
    assert held(app, Bench).task.digest == load_task("int-mult", cases=cases).digest
    assert app.query_params["hold-out"] == "operands"
    assert app.query_params["wordings"] == "2"
    app = settled(app.text_area(key="template-int-mult").set_value("{i} * {j} =").run())
    assert app.number_input(key="wordings-int-mult").disabled
    own = load_task("int-mult", template="{i} * {j} =", cases=Cases(hold_out="operands"))
    assert held(app, Bench).task.digest == own.digest


def test_fetched_relations_are_tasks_of_the_sidebar(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = relations.fetched_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "antonym.csv"
    path.write_text("input,output\n" + "".join(f"{i} + {i} =,{2 * i}\n" for i in range(30)))
    try:
        app = open_page("Overview", task="relation:antonym")
        assert held(app, Bench).task.digest == load_task("relation:antonym").digest
        assert app.selectbox(key="hold-out-relation:antonym").options == ["nothing", "operands", "answers", "wordings"]
        assert "splits-relation:antonym" not in {one.key for one in app.selectbox}
    finally:
        path.unlink()
