"""What one can take away from a page: a link to it, and commands and Python that give its numbers."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from explorer.errors import MaskError, TaskError
from explorer.library import Library
from explorer.mask_links import INLINE
from explorer.perplexity import TOKENS, read_text, tokens_of
from explorer.tasks import TASKS
from explorer.ui import links
from explorer.ui.recipes import Recipe, is_file_task
from explorer.ui.session import Bench
from explorer.ui.words import literal


def draw(bench: Bench) -> None:
    """The popover; what it holds is made when it is open."""
    with st.popover("Share", icon=":material/share:", width="stretch", key="share", on_change="rerun") as popover:
        if popover.open:
            _link(bench)
            _code(bench)


def _link(bench: Bench) -> None:
    st.markdown("**Link** to this view")
    st.code(links.address(bench.model.source.name, bench.task.name, bench.mask), language=None, wrap_lines=True)
    if is_file_task(bench.task):
        st.caption("A link cannot hold the task's file: send it along.")
    if len(bench.mask) > INLINE:
        st.caption(
            f"A link holds masks of up to {INLINE} values. This one goes by its id, for whoever uses this workspace; "
            "send others the mask's file."
        )


def _code(bench: Bench) -> None:
    """Commands and Python in tabs. They read the mask from a file of the workspace, which is made now."""
    try:
        path = Library.default().keep(bench.mask) if len(bench.mask) else None
    except MaskError as error:
        st.error(literal(str(error)))
        return
    recipe = recipe_of(bench, path)
    if is_file_task(bench.task):
        st.caption(f"Run it in the folder of {literal(bench.task.name)}.")
    damage = "Damage to plain text and to the task" if recipe.text else "Damage to the task"
    command, python = st.tabs(["Copy as command", "Copy as Python"])
    with command:
        _block("Accuracy and loss", recipe.evaluate_command(), "bash")
        _block(damage, recipe.damage_command(), "bash")
    with python:
        _block("Accuracy and loss", recipe.evaluate_python(), "python")
        _block(damage, recipe.damage_python(), "python")


def recipe_of(bench: Bench, mask: Path | None) -> Recipe:
    """The bench's measurement, with the mask in a file."""
    typed = st.session_state.get("superglue") if _needs_data(bench.task.name) else None
    return Recipe(
        model=bench.model.source.name,
        basis=bench.model.basis,
        task=bench.task,
        split=bench.split,
        limit=bench.eval_limit,
        mask=mask,
        data=Path(str(typed)).expanduser() if typed else None,
        text=_reads(bench),
    )


def _reads(bench: Bench) -> bool:
    """Whether the model knows the words of the plain text."""
    try:
        tokens_of(bench.model.tokenizer, read_text(), TOKENS)
    except TaskError:
        return False
    return True


def _needs_data(name: str) -> bool:
    return name in TASKS and TASKS[name].needs_data


def _block(title: str, text: str | None, language: str) -> None:
    if text is not None:
        st.caption(title)
        st.code(text, language=language, wrap_lines=True)
