"""What one can take away from a page: a link to it, and commands and Python that do what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import getdoc
from pathlib import Path

import streamlit as st

from explorer.actions import Request
from explorer.core.errors import ExplorerError
from explorer.masks.links import INLINE
from explorer.tasks import TASKS, Task
from explorer.tasks.relations import PREFIX
from explorer.ui.components.words import literal
from explorer.ui.session import Bench, Setting, links, requests
from explorer.ui.shell import bundles, notebooks, task_choice, tasks_at_hand

Make = Callable[[Setting], Iterable[Request | None]]
_LINK = "A link to this view, the mask's figures as command and as Python, and the session as a notebook or page."


def draw(bench: Bench) -> None:
    """The sidebar's popover; what it holds is made when it is open."""
    with st.popover(
        "Share", icon=":material/share:", width="stretch", key="share", on_change="rerun", help=_LINK
    ) as popover:
        if popover.open:
            _link(bench)
            notebooks.draw(bench, _named(bench))
            bundles.draw(bench, _named(bench))
            _tabs(bench, _figures)


def _figures(setting: Setting) -> list[Request | None]:
    """The mask on the bench's examples, and what it does to them and to plain text."""
    mask, limit = setting.bench.mask, setting.bench.eval_limit
    return [requests.evaluate(setting, mask), requests.damage(setting, mask, setting.tasks, limit=limit)]


def copy(name: str, bench: Bench, make: Make, *, disabled: bool = False, files: Iterable[str] = ()) -> None:
    """A popover beside an action: the action as command and as Python, made when it is open.

    Args:
        name: of the popover; unique on its page.
        bench: what the page works on.
        make: the requests, from what they are about; what it raises is said in their place.
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


def _tabs(bench: Bench, make: Make, files: Iterable[str] = ()) -> None:
    try:
        asked = [request for request in make(_named(bench)) if request is not None]
    except ExplorerError as error:
        st.error(literal(str(error)))
        return
    own = [bench.task.name.removeprefix(PREFIX)] if is_file_task(bench.task) else []
    needed = dict.fromkeys([*own, *files])
    if needed:
        st.caption(f"Run it in the folder of {literal(', '.join(needed))}.")
    command, python = st.tabs(["Copy as command", "Copy as Python"])
    for request in asked:
        for box, text, language in (
            (command, request.as_command("--json"), "bash"),
            (python, request.as_python(), "python"),
        ):
            box.caption(literal((getdoc(type(request)) or "").partition("\n")[0]))
            box.code(text, language=language, wrap_lines=True)


def _named(bench: Bench) -> Setting:
    return requests.by_name(bench, data_folder(bench))


def data_folder(bench: Bench) -> Path | None:
    """The folder of the bench's task's data, if it was given one."""
    name = bench.task.name
    return tasks_at_hand.folder() if name in TASKS and TASKS[name].needs_data else None


def is_file_task(task: Task) -> bool:
    """Whether the task came from a file, which a command needs beside it."""
    return task.name not in tasks_at_hand.named()
