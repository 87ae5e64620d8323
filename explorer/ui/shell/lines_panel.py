"""The steps of the mask that one can jump between, and the forks that one can switch between."""

from __future__ import annotations

import streamlit as st

from explorer.models import Model
from explorer.ui.components.words import literal
from explorer.ui.session import Widget, session
from explorer.ui.session.history import MAX_NAME, History, Lines

HEIGHT = 320
_STEPS = "All steps of the mask: click one to go there."
_FORKS = "Try something else in a line of steps of its own."


def choose_line(model: Model) -> None:
    """The current fork, where there are several."""
    now = session.lines(model)
    if len(now.lines) == 1:
        return
    Widget[str]("fork").put(now.line.name)

    def switch(name: str) -> None:
        session.change_lines(model, lambda lines: lines.switch(name))

    st.selectbox(
        "Fork",
        now.names,
        key="fork",
        on_change=session.moved("fork", now.line.name, switch),
        help="Each fork has its own mask and its own steps.",
    )


def steps(model: Model) -> None:
    """All steps of the current line, newest first; a click goes there."""
    lines = session.lines(model)
    history = lines.history
    # A new widget for every state: one in a closed popover keeps, and sends, the choice that was made in it last.
    key = f"history-step-{lines.current}-{history.position}-{len(history.steps)}"
    with st.popover("History", icon=":material/history:", width="stretch", key="history-popover", help=_STEPS):
        Widget[int](key).put(history.position)

        def jump(at: int) -> None:
            session.step(model, lambda line: line.jump(at))

        with st.container(height=HEIGHT if len(history.steps) > 8 else "content"):
            st.radio(
                "Steps, newest first",
                range(len(history.steps) - 1, -1, -1),
                format_func=lambda at: _text(history, at),
                key=key,
                on_change=session.moved(key, history.position, jump),
            )


def _text(history: History, at: int) -> str:
    step = history.steps[at]
    return f"{at}. {literal(step.label)} ({len(step.mask):,} {step.mask.state})"


def forks(model: Model) -> None:
    """Go on in a new line, close the current one, open the last one again."""
    now = session.lines(model)
    with st.popover("Fork", icon=":material/call_split:", width="stretch", key="fork-popover", help=_FORKS):
        st.markdown("A fork goes on from here in a line of its own; this line stays as it is.")
        typed: Widget[str] = Widget("fork-name")
        st.text_input("Name", placeholder=now.free_name, key=typed.key, max_chars=MAX_NAME)

        def fork() -> None:
            name = typed.text
            typed.put("")
            session.change_lines(model, lambda lines: lines.fork(name or lines.free_name))

        def close() -> None:
            session.change_lines(model, Lines.close)

        def reopen() -> None:
            session.change_lines(model, Lines.reopen)

        st.button("Fork here", key="fork-here", type="primary", on_click=fork, width="stretch")
        if len(now.lines) > 1:
            st.button(literal(f"Close {now.line.name}"), key="fork-close", on_click=close, width="stretch")
        if now.closed is not None:
            st.button(literal(f"Open {now.closed.name} again"), key="fork-reopen", on_click=reopen, width="stretch")
