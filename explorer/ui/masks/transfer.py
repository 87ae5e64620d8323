"""A saved mask carried over to another task or model: made as a job, measured there, kept under a new name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st

from explorer.actions import TransferMask
from explorer.masks.belonging import names
from explorer.masks.library import MAX_NAME, Entry, Library, Listing, id_of
from explorer.masks.mask import Mask
from explorer.tasks import Task
from explorer.ui.bench import second_model
from explorer.ui.components import comparisons
from explorer.ui.components.words import literal
from explorer.ui.masks import outcomes
from explorer.ui.masks.saved import attempt
from explorer.ui.session import Bench, Setting, Widget, guide, requests, state
from explorer.ui.shell import share, tasks_at_hand
from explorer.ui.shell.model_choice import another


@dataclass(frozen=True)
class Target:
    """Where a mask is to be carried over.

    Attributes:
        model: name of another model; an empty text for the page's.
        data: folder of the task's data, if it needs one.
        sibling: whether the model is not the mask's own.
    """

    task: Task
    data: Path | None
    model: str
    sibling: bool


_MODEL: Widget[str | None] = Widget("transfer-model")


@dataclass(frozen=True)
class _Asked:
    """The mask that was last asked to be carried over, the task, and the model."""

    mask: str
    task: str
    model: str


def draw(bench: Bench, library: Library, known: Listing, entry: Entry) -> None:
    """Choose a target; on demand the mask for it, what it does there, and a place to keep it."""
    st.subheader("Transfer", divider="gray", anchor=False)
    guide.explain(
        "The same values of the same matrices, on another task. What stands in for them is frozen at means over that "
        "task's train tokens instead of the old ones. On another model of the same shapes, such as a fine-tune, the "
        "singular values are that model's own, too."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", key="transfer-bar"):
        target = _choose(bench, entry.mask)
        if target is None:
            return
        needless = not target.sibling and entry.mask.mode == "zero"
        asked = _Asked(entry.id, target.task.digest, target.model)
        st.button(
            "Transfer",
            key="transfer",
            type="primary",
            disabled=needless,
            on_click=lambda: state.put(asked),
            help=f"Makes the mask and measures it on the {bench.split} split. Means and figures come from as many "
            "examples as the settings measure on.",
        )
        files = [target.task.name] if share.is_file_task(target.task) else []
        share.copy(
            "transfer", bench, lambda setting: [_request(setting, entry.mask, target)], disabled=needless, files=files
        )
    if needless:
        st.caption("Its values are set to zero, not frozen: it is the same mask on every task of this model.")
    elif state.find(_Asked) == asked:
        _made(bench, library, known, entry=entry, target=target)


def _choose(bench: Bench, mask: Mask) -> Target | None:
    """The target's widgets; None while the task cannot be had, which is then shown."""
    offered = tasks_at_hand.readings(without=bench.task.name)
    name = st.selectbox(
        "Target task", [*offered, bench.task.name], key="transfer-task", persist_state="session", width=220,
        help="Other tasks are asked in their own words, the page's as the sidebar says.",
    )  # fmt: skip
    usual, about = second_model.short_name(bench), "One of the same shapes, such as a fine-tune, beside the page's."
    model = another("Target model", _MODEL, placeholder=f"{usual}, as loaded", about=about, width=260)
    sibling = bool(model) or mask.model.digest not in names(bench.model)
    if name == bench.task.name:
        return Target(bench.task, share.data_folder(bench), model, sibling=sibling)
    task = offered[name].task()
    return None if task is None else Target(task, offered[name].folder, model, sibling=sibling)


def _request(setting: Setting, mask: Mask, target: Target) -> TransferMask:
    model = replace(setting.model, model=target.model or setting.model.model)
    task = requests.task_choice(target.task, target.data)
    return outcomes.transfer_request(replace(setting, model=model, task=task), mask, sibling=target.sibling)


def _made(bench: Bench, library: Library, known: Listing, entry: Entry, target: Target) -> None:
    place = second_model.bench_of(bench, target.model) if target.model else bench
    if place is None:
        return
    made = outcomes.transferred(place, entry.mask, target.task, sibling=target.sibling)
    if made is None:
        return
    if made.digest == entry.mask.digest:
        st.info("It comes out as the mask that it was: its frozen means are those of this task already.")
        return
    _outcome(place, entry.mask, made, target=target)
    _keep(library, known, entry, made=made, target=target)


def _outcome(bench: Bench, before: Mask, made: Mask, target: Target) -> None:
    """The unpruned model, the mask as it was where it fits the model, and the new one."""
    after = outcomes.pair(bench, made.without_all(), made, task=target.task)
    kept = None if target.sibling else outcomes.pair(bench, made.without_all(), before, task=target.task)
    anew = None if target.sibling else outcomes.pair(bench, before, made, task=target.task)
    if after is None or not (target.sibling or (kept and anew)):
        return
    rows = [{"mask": "unpruned", **comparisons.measured(after.baseline)}]
    for name, found in (("as it is", kept), ("transferred", after)):
        if found is not None:
            rows.append({"mask": name, **comparisons.measured(found.masked), **comparisons.changed(found)})
    comparisons.table(rows, "transfer-figures")
    if anew is not None:
        where = f"the same {anew.masked.n:,} {bench.split} examples of {literal(target.task.name)}"
        st.markdown(comparisons.sentence(anew, "the mask as it is", "the transferred one", where=where))


def _keep(library: Library, known: Listing, entry: Entry, made: Mask, target: Target) -> None:
    there = next((one for one in known.entries if one.id == id_of(made)), None)
    if there is not None:
        st.caption(f"The transferred mask is in the library as **{literal(there.name)}**.")
        return
    model = f" on {target.model.rstrip('/').split('/')[-1]}" if target.model else ""
    proposed = f"{entry.name} for {target.task.name}{model}"[:MAX_NAME]

    typed: Widget[str] = Widget("transfer-name")

    def keep() -> None:
        name = typed.text or proposed
        if attempt(lambda: library.save(made, name, fork_of=entry.id)):
            typed.put("")
            more = " It belongs to the other model." if target.model else ""
            st.toast(literal(f"{name} saved.{more}"), icon=":material/check:")

    with st.container(horizontal=True, vertical_alignment="bottom", key="transfer-keep"):
        st.text_input(
            "Keep the transferred mask as", placeholder=proposed, key=typed.key, max_chars=MAX_NAME, width=420
        )
        st.button("Keep", key="transfer-save", on_click=keep, help="Adds it to the library; the mask above stays.")
