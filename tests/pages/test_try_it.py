"""Try it: what both sides say is what the engine says; it is stopped, linked, copied, and goes on as a chat."""

from __future__ import annotations

import json
import shlex
import threading
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.attribution import Scores
from explorer.core.errors import Stopped
from explorer.experiments.reply_controls import DRAWS, ReplyControls, controls_sentence
from explorer.masks import replies as engine_replies
from explorer.masks.mask import Mask
from explorer.masks.replies import ReplyPair, parting_sentence, replies, summary_sentence
from explorer.measure.generation import Decoding
from explorer.ui.try_it import form
from tests import tiny
from tests.commands import run
from tests.pages.app import Engine, captions, click, copied, go, open_page, plain, settled

pytestmark = pytest.mark.slow

COUNT, PROMPT = 4, "3 x 4 ="


def pruned(**query: str) -> AppTest:
    app = open_page("Prune", **query)
    app = click(app, "remove-lowest")
    return go(app, "Try it")


def said(engine: Engine, mask: Mask, *prompts: str, **how: Any) -> tuple[ReplyPair, ...]:
    return replies((engine.view.model.view(), engine.view), mask, engine.svds, prompts, decoding=Decoding(**how))


def asked(app: AppTest, text: str) -> AppTest:
    box = next(one for one in app.text_area if (one.key or "").startswith("try-prompt-"))
    box.set_value(text)
    return settled(app.run())


def shown(app: AppTest) -> str:
    """All that the page says of replies."""
    return plain("\n".join([*(one.value for one in app.markdown), *(one.proto.body for one in app.get("html"))]))


def words_of(pair: ReplyPair) -> str:
    return parting_sentence(pair)


def test_both_sides_say_what_the_engine_says(engine: Engine, scores: Scores) -> None:
    app = asked(pruned(), PROMPT)
    assert "Generate starts them" in captions(app)
    app = click(app, "try-generate")
    (pair,) = said(engine, engine.lowest(scores, COUNT), PROMPT)
    assert pair.masked is not None
    assert words_of(pair) in shown(app)
    for reply in (pair.baseline, pair.masked):
        assert f"{reply.loss:.3f} nats per token, {reply.loss_elsewhere:.3f} to the other side" in captions(app)
    copies = copied(app, "generate")
    assert f"--prompt '{PROMPT}'" in copies.commands[0]
    assert "--mask" in copies.commands[0]
    assert "Generate(" in copies.python[0]


def test_another_mask_is_heard_at_once(engine: Engine, scores: Scores) -> None:
    app = click(asked(pruned(), PROMPT), "try-generate")
    app = click(app, "undo")
    assert "With the mask" not in shown(app)
    assert any("speaks alone" in one.value for one in app.info)
    (pair,) = said(engine, engine.lowest(scores, COUNT).without_all(), PROMPT)
    assert f"{pair.baseline.loss:.3f} nats per token" in captions(app)


def test_several_prompts_make_a_table_and_draws_follow_the_seed(engine: Engine, scores: Scores) -> None:
    app = pruned(prompts=form.LINES, tokens="6", warmth="0.9", draw="3", say="3 x 4 =\n\n5 x 7 =\n2 x 2 =")
    app = click(app, "try-generate")
    prompts = ("3 x 4 =", "5 x 7 =", "2 x 2 =")
    found = said(engine, engine.lowest(scores, COUNT), *prompts, new_tokens=6, temperature=0.9, seed=3)
    assert summary_sentence(found) in shown(app)
    table = next(one.value for one in app.dataframe if "same tokens" in one.value.columns)
    assert list(table["unpruned reply"]) == [pair.baseline.text for pair in found]
    assert list(table["reply with the mask"]) == [pair.masked.text for pair in found if pair.masked is not None]
    assert words_of(found[0]) in shown(app)
    app.selectbox(key="try-pair").set_value(2)
    assert words_of(found[2]) in shown(settled(app.run()))
    assert "--temperature 0.9" in copied(app, "generate").commands[0]


def test_random_masks_of_the_same_size_stand_beside(engine: Engine, scores: Scores) -> None:
    """What the command says of the same, whose masks come from the mask's own task."""
    app = click(asked(pruned(tokens="6"), PROMPT), "try-generate")
    app = click(app, "try-chance")
    (command,) = copied(app, "generate").commands
    assert f"--controls {DRAWS}" in command
    told = json.loads(run(*shlex.split(command)[1:]).stdout)["controls"]
    found = ReplyControls(**{name: tuple(one) if isinstance(one, list) else one for name, one in told.items()})
    assert (found.prompts, len(found.seeds)) == (1, DRAWS)
    assert controls_sentence(found) in shown(app)


def test_what_is_asked_is_in_the_address() -> None:
    app = open_page("Try it", say="5 x 5 =", tokens="7", warmth="0.5", draw="9")
    box = next(one for one in app.text_area if (one.key or "").startswith("try-prompt-"))
    assert box.value == "5 x 5 ="
    assert app.number_input(key="try-tokens").value == 7
    app.number_input(key="try-tokens").set_value(8)
    app = settled(app.run())
    assert app.query_params["tokens"] == "8"


def test_stopped_it_keeps_what_has_been_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is told to stop after three tokens of each side, as its button does."""
    engine = replies
    begun = threading.Event()

    def slowly(*arguments: Any, progress: Any, **options: Any) -> Any:
        def tell(done: int, total: int) -> None:
            begun.set()
            if done >= 6:
                raise Stopped
            progress(done, total)

        return engine(*arguments, progress=tell, **options)

    monkeypatch.setattr("explorer.ui.try_it.page.replies", slowly)
    app = click(asked(pruned(), PROMPT), "try-generate")
    assert begun.is_set()
    assert "3 tokens; ended: stopped" in captions(app)
    monkeypatch.undo()
    app = click(app, "try-generate")
    assert "stopped" not in captions(app)
    assert not app.error
    assert engine is engine_replies.replies


def test_a_chat_goes_on_from_a_reply(tmp_path: Any) -> None:
    folder = tiny.save_letters(tmp_path / "chatting")
    template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template + "{% if add_generation_prompt %}a:{% endif %}")
    app = open_page("Try it", model=str(folder), tokens="5", talk="True")
    app = click(app, "load-linked")
    app = click(asked(app, "hi"), "try-generate")
    assert app.toggle(key=next(one.key for one in app.toggle if one.label == "Chat")).value
    app = click(app, "try-on-Unpr")
    texts = [one.value for one in app.get("text")]
    assert texts[0] == "hi"
    turns = app.query_params["turns"]
    assert json.loads(turns) == [["hi", texts[1]]]
    app = asked(app, "and?")
    assert "--turn hi" in copied(app, "generate").commands[0]
    again = open_page("Try it", model=str(folder), talk="True", turns=turns)
    assert [one.value for one in again.get("text")] == texts
    again = click(again, "try-over")
    assert not again.get("text")
    assert "turns" not in again.query_params


def test_what_cannot_be_read_is_said_in_a_sentence() -> None:
    app = open_page("Try it", tokens="5", turns="{")
    assert any("turns" in plain(one.value) for one in app.toast)
    app = click(asked(app, "3 x " * 200), "try-generate")
    assert any("type some text of 1 to 32 tokens" in plain(one.value) for one in app.error)
    app = asked(app, " ")
    assert app.button(key="try-generate").disabled
