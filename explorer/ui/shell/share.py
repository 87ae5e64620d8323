"""What one can take away from a page: a link to it, and commands and Python that do what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import streamlit as st

from explorer.core.errors import ExplorerError
from explorer.masks.library import Library
from explorer.masks.links import INLINE
from explorer.ui.components.words import literal
from explorer.ui.session import links
from explorer.ui.session.session import Bench
from explorer.ui.shell import task_choice, tasks_at_hand
from explorer.ui.shell.plain_text import reads
from explorer.ui.shell.recipes import Recipe, Setting, evaluate, is_file_task, needs_data, own_damage

Recipes = Iterable[Recipe | None]
_LINK = "A link to this view, and the mask's figures as command and as Python."


def draw(bench: Bench) -> None:
    """The sidebar's popover; what it holds is made when it is open."""
    with st.popover(
        "Share", icon=":material/share:", width="stretch", key="share", on_change="rerun", help=_LINK
    ) as popover:
        if popover.open:
            _link(bench)
            _tabs(bench, lambda: [evaluate(setting(bench)), own_damage(setting(bench))])


def copy(
    name: str, bench: Bench, make: Callable[[], Recipes], *, disabled: bool = False, files: Iterable[str] = ()
) -> None:
    """A popover beside an action: the action as command and as Python, made when it is open.

    Args:
        name: of the popover; unique on its page.
        bench: what the page works on.
        make: the recipes; what it raises is said in their place.
        disabled: while the action has nothing to work on.
        files: uploaded task files, beside the bench's, that what is copied needs beside it.
    """
    with st.popover(
        "Copy as code", icon=":material/terminal:", key=f"copy-{name}", on_change="rerun", disabled=disabled,
        help="As a command and as Python, which give the same numbers.",
    ) as popover:  # fmt: skip
        if popover.open and not disabled:
            _tabs(bench, make, files)


def _link(bench: Bench) -> None:
    st.markdown("**Link** to this view")
    st.code(links.address(bench.model.source.name, task_choice.link_text(), bench.mask), language=None, wrap_lines=True)
    if is_file_task(bench.task):
        st.caption(
            "A link names the task's file by its content, and cannot hold it: send it along to who does not use this "
            "workspace."
        )
    if len(bench.mask) > INLINE:
        st.caption(
            f"A link holds masks of up to {INLINE} values. This one goes by its id, for whoever uses this workspace; "
            "send others the mask's file."
        )


def _tabs(bench: Bench, make: Callable[[], Recipes], files: Iterable[str] = ()) -> None:
    try:
        recipes = [recipe for recipe in make() if recipe is not None]
    except ExplorerError as error:
        st.error(literal(str(error)))
        return
    needed = dict.fromkeys([*([bench.task.name] if is_file_task(bench.task) else []), *files])
    if needed:
        st.caption(f"Run it in the folder of {literal(', '.join(needed))}.")
    command, python = st.tabs(["Copy as command", "Copy as Python"])
    with command:
        for recipe in recipes:
            _block(recipe.title, recipe.command, "bash")
        if any(recipe.command is None for recipe in recipes):
            st.caption("Where there is no command, there is Python.")
    with python:
        for recipe in recipes:
            _block(recipe.title, recipe.python, "python")


def setting(bench: Bench, mask: Path | None = None, *, unpruned: bool = False) -> Setting:
    """What an action of the page works on, with the current mask, or another, in a file of the workspace.

    Raises:
        MaskError: the current mask cannot be written.
    """
    if mask is None and len(bench.mask) and not unpruned:
        mask = Library.default().keep(bench.mask)
    return Setting(
        model=bench.model.source.name,
        basis=bench.model.basis,
        task=bench.task,
        split=bench.split,
        limit=bench.eval_limit,
        mask=mask,
        mode=bench.mode,
        gain=bench.mask.gain,
        kinds=bench.kinds,
        per_head=bench.per_head,
        scorer=bench.scorer,
        score_limit=bench.score_limit,
        data=tasks_at_hand.folder() if needs_data(bench.task.name) else None,
        text=reads(bench.model),
    )


def _block(title: str, text: str | None, language: str) -> None:
    if text is not None:
        st.caption(title)
        st.code(text, language=language, wrap_lines=True)
