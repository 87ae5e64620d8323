"""How a task is asked, in the sidebar: BOS token, chat, system message; in links and copied commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.tasks import Framing, load_task
from explorer.ui.session.session import Bench
from tests.pages.app import click, copied, held, open_page, settled
from tests.unit.test_tokens import CHATML, save, words


def test_bos_of_the_sidebar_is_measured_linked_and_copied() -> None:
    app = open_page("Scores", bos="never")
    assert app.selectbox(key="bos-int-mult").value == "never"
    assert held(app, Bench).task.digest == load_task("int-mult", framing=Framing("never")).digest
    assert any("--bos never" in command for command in copied(app, "ranking").commands)
    app = settled(app.selectbox(key="bos-int-mult").select("auto").run())
    assert "bos" not in app.query_params
    assert held(app, Bench).task.digest == load_task("int-mult").digest


def test_a_chat_without_a_template_is_a_sentence_on_the_page() -> None:
    app = open_page("Overview", chat="1", system="w1")
    assert app.toggle(key="chat-int-mult").value is True
    assert any("no chat template" in one.value for one in app.error)
    app = settled(app.toggle(key="chat-int-mult").set_value(False).run())
    assert not app.error
    assert held(app, Bench).task.framing == Framing()


@pytest.fixture
def chatting(tmp_path: Path) -> Path:
    return save(tmp_path, words(CHATML))


def test_words_that_the_model_does_not_know_are_said_on_the_page(chatting: Path) -> None:
    app = open_page("Overview", model=str(chatting))
    app = click(app, "load-linked")
    assert any("does not know" in one.value and "prompts of int-mult" in one.value for one in app.warning)
