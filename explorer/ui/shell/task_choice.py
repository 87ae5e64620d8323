"""The sidebar's task: which one, and how it is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.core.files import typed_path
from explorer.tasks import (
    BOS_RULES,
    HELD_OUT,
    METRICS,
    MOST_SHOTS,
    SPLIT_RULES,
    SPLITS,
    SUFFIXES,
    TASKS,
    Cases,
    Framing,
    Task,
    TaskSpec,
    as_cases,
    as_framing,
    is_harness,
)
from explorer.tasks.metric import METRIC_NAMES
from explorer.tasks.relations import PREFIX, TEMPLATE, WORDINGS
from explorer.ui.components.words import literal
from explorer.ui.session import Widget, links, state
from explorer.ui.shell import tasks_at_hand
from explorer.ui.shell.task_files import ID_LETTERS, TaskFile, safe_name
from explorer.ui.shell.task_reading import Reading

DEFAULT = "int-mult"
MOST_LETTERS = 2000  # of a prompt template
UPLOADED = "JSONL, CSV or YAML file…"
FILE_HINT = "Choose a task file in the sidebar to go on."
READING_HINT = "The task is being read: the sidebar shows how far."
DATA_HINT = "Give a folder of SuperGLUE's JSON lines in the sidebar, or choose another task, to go on."
_ASKING = (
    "shots",
    "template",
    "splits",
    "hold-out",
    "wordings",
    "only",
    "bos",
    "chat",
    "system",
    "metric",
)  # what begins the keys of how a task is asked
_SHOWN = 100  # letters of a name that means nothing here
_LINKED = re.compile(rf"([0-9a-f]{{{ID_LETTERS}}})~(.{{1,200}})")
_METRICS: Mapping[str, str] = {"auto": "choice where all have choices, else exact match", **METRIC_NAMES}
_FILE_HELP = (
    "One example per line, as a JSON object or a line of CSV: `prompt` and `answer`, perhaps `choices`, `distractor`, "
    "`split` and `group` (what stays in one split). Or CSV with `input` and `output`, a relation. Or the YAML file of "
    "a task of the lm-evaluation-harness, whose data files lie in this server's working folder."
)
NOTHING = "nothing"
_RULES: Mapping[str, str] = {"twins": "twins together", "published": "as published"}
_RULES_HELP = (
    "Twins share an answer by symmetry, such as 3 * 11 and 11 * 3: together, a test example's twin is never in train "
    "or validation. As published, every ordered pair is for itself; for reproductions."
)
_HELD_OUT_HELP = (
    "What test examples have that no train or validation example has: operands (numbers, names, inputs), answers, or "
    "wordings (prompt templates that no search uses)."
)
_BOS_HELP = (
    "In front of every prompt. auto: if the tokenizer has one and the task wants one; in a chat as its template says."
)
_CHAT_HELP = (
    "Through the tokenizer's chat template: the prompt is the user's turn, the answer, without blanks in front, the "
    "beginning of the assistant's; shots are earlier turns."
)


@dataclass(frozen=True)
class _Wanted:
    """A task that a link asks for and that is not here: a file by its id and name, or `name` alone."""

    name: str
    id: str = ""


@dataclass(frozen=True)
class _Last:
    """What the chosen file was called."""

    name: str = ""


@dataclass(frozen=True)
class _Refused:
    """Why a file was not taken."""

    sentence: str


def choose() -> tuple[Task | None, str]:
    """Draw the choice; the task, or None and what to do next (a reason is on the page if there is one)."""
    chosen = _choose_name()
    file = _given_file(chosen)
    needs_data = chosen in TASKS and TASKS[chosen].needs_data
    wanted = state.find(_Wanted) if chosen == UPLOADED else None
    if chosen == UPLOADED:
        _uploader(wanted)
    folder = _choose_folder(chosen) if needs_data else None
    asked = _choose_wording(chosen, _offered(chosen, file))
    if chosen == UPLOADED:
        return None, FILE_HINT if wanted is None else _hint_for(wanted)
    hint = DATA_HINT if needs_data else "Change the task in the sidebar to go on."
    reading = replace(asked, name=chosen if file is None else file.name, folder=folder, file=file)
    task = reading.task()
    if file is not None:
        if task is not None:
            tasks_at_hand.keep(file.id)
        _remover(file)
    if task is None:
        return None, READING_HINT if reading.under_way else hint
    sizes = ", ".join(f"{len(getattr(task, split)):,} {split}" for split in SPLITS)
    only = "" if task.cases.only is None else f", only {literal(task.cases.only)}"
    st.caption(f"{literal(task.description)}{only}: {sizes}")
    for sentence in task.notices:
        st.warning(literal(sentence), icon=":material/help:")
    return task, hint


def link_text() -> str:
    """The sidebar's task as a link names it: a built-in task by its name, a file by its id and name."""
    chosen = state.TASK.value or DEFAULT
    file = _given_file(chosen)
    return chosen if file is None else f"{file.id}~{file.name}"


def _choose_name() -> str:
    """The name of a built-in task, the id of a file that was given, or `UPLOADED`."""
    files = tasks_at_hand.given()
    links.restore("task", DEFAULT, lambda text: _named(text, files))
    offered = [*tasks_at_hand.named(), *files, UPLOADED]
    if (held := state.TASK.value or DEFAULT) not in offered:  # removed meanwhile, elsewhere
        state.put(_Wanted(state.of(_Last).name, held))
        state.TASK.put(UPLOADED)
    names = [file.name for file in files.values()]

    def label(name: str) -> str:
        file = files.get(name)
        if file is None:
            return name
        return file.name if names.count(file.name) == 1 else f"{file.name} ({file.id[:6]})"

    chosen = st.selectbox(
        "Task", offered, format_func=label, key=state.TASK.key,
        persist_state="session",
        help="What scores and accuracies are of. Examples are split into train, validation and test by a fixed seed.",
    )  # fmt: skip
    chosen = str(chosen)
    state.put(_Last(files[chosen].name if chosen in files else ""))
    if chosen != UPLOADED:
        state.take(_Wanted)
    wanted = state.find(_Wanted)
    text = link_text() if wanted is None else f"{wanted.id}~{wanted.name}" if wanted.id else wanted.name
    links.keep("task", text, DEFAULT)
    return chosen


def _named(text: str, files: Mapping[str, TaskFile]) -> str:
    """The choice that a link's text asks for; what is not here is asked for, and no other task takes its place."""
    if text in tasks_at_hand.named() or text == UPLOADED:
        return text
    at = _LINKED.fullmatch(text)
    if at is not None and at[1] in files:
        return at[1]
    state.put(_Wanted(safe_name(at[2]), at[1]) if at is not None else _Wanted(text[:_SHOWN]))
    return UPLOADED


def _hint_for(wanted: _Wanted) -> str:
    """What to do about a task that is not here."""
    if wanted.id:
        return (
            f"This view is of the task file {wanted.name} ({wanted.id}…), which is not in this workspace: "
            "choose that file in the sidebar, or another task."
        )
    return f"The link's task {wanted.name!r} is not known here: choose its file in the sidebar, or another task."


def _given_file(chosen: str) -> TaskFile | None:
    return None if chosen in tasks_at_hand.named() or chosen == UPLOADED else tasks_at_hand.given().get(chosen)


def _uploader(wanted: _Wanted | None) -> None:
    """Take a file, and make it the task; another one than a link asks for is refused."""
    uploads = state.Uploads[Any]("task_file")

    def take() -> None:
        upload = uploads.widget.value
        if upload is None:
            return
        file = TaskFile.held(upload.name, upload.getvalue())
        if wanted is not None and wanted.id and file.id != wanted.id:
            state.put(_Refused(f"{upload.name} holds something else ({file.id}…) than the link asks for."))
            return
        tasks_at_hand.hold(file)
        for one in _ASKING:  # a link may have said
            if (asked := Widget[Any](f"{one}-{UPLOADED}")).held:
                Widget[Any](f"{one}-{file.id}").put(asked.value)
        state.TASK.put(file.id)
        uploads.renew()
        state.take(_Wanted)

    with st.container(key="task-upload"):
        st.file_uploader("Task file", type=list(SUFFIXES), key=uploads.widget.key, help=_FILE_HELP, on_change=take)
    if (refused := state.take(_Refused)) is not None:
        st.error(literal(refused.sentence), icon=":material/error:")


def _remover(file: TaskFile) -> None:
    def remove() -> None:
        tasks_at_hand.remove(file.id)
        state.TASK.put(UPLOADED)

    st.button(
        "Remove this file", key="task-remove", icon=":material/delete:", type="tertiary", on_click=remove,
        help="Files that were given are kept in the workspace, so that a reload finds them again. Masks stay.",
    )  # fmt: skip


def _choose_folder(name: str) -> Path | None:
    typed = st.text_input(
        "SuperGLUE folder",
        key=state.SUPERGLUE.key,
        persist_state="session",
        placeholder="from the hub",
        help=f"A folder of this machine with {name}/train.jsonl and {name}/validation.jsonl; empty: from the hub.",
    )
    return typed_path(typed) or Path(typed) if typed else None


@dataclass(frozen=True)
class _OnOffer:
    """What a task offers of cases and wordings.

    Attributes:
        template: the usual prompt.
        rules: how its cases may be split.
        held_out: what may be held out.
        wordings: how many searches may use.
    """

    template: str
    rules: tuple[str, ...] = SPLIT_RULES
    held_out: tuple[str, ...] = ()
    wordings: int = 1

    @classmethod
    def of(cls, spec: TaskSpec) -> _OnOffer:
        """What a task of the table offers."""
        held_out = [] if spec.comes_split else ["operands", "answers"]
        held_out += ["wordings"] if spec.unseen else []
        rules = SPLIT_RULES if spec.symmetric else SPLIT_RULES[:1]
        return cls(spec.template, rules, tuple(held_out), wordings=len(spec.searched))


def _offered(chosen: str, file: TaskFile | None) -> _OnOffer:
    if chosen in TASKS:
        return _OnOffer.of(TASKS[chosen])
    if chosen.startswith(PREFIX) or (file is not None and tasks_at_hand.is_relation_file(file)):
        return _OnOffer(TEMPLATE, SPLIT_RULES[:1], HELD_OUT, wordings=1 + len(WORDINGS))
    if file is not None and is_harness(file.name):
        return _OnOffer("as its file asks", SPLIT_RULES[:1])
    return _OnOffer("{prompt}", held_out=("answers",))


def _choose_wording(name: str, offered: _OnOffer) -> Reading:
    """Shots, template, cases, framing and metric; they start anew with each task."""
    of_shots = links.restore("shots", 0, links.whole_in(0, MOST_SHOTS), key=f"shots-{name}")
    of_template = links.restore("template", "", links.text_up_to(MOST_LETTERS), key=f"template-{name}")
    with st.expander("How it is asked", icon=":material/chat:"):
        about = "Solved train examples, the same for all, in front of every prompt."
        shots = of_shots.draw(st.number_input, "Shots", min_value=0, max_value=MOST_SHOTS, help=about)
        template = of_template.draw(
            st.text_area, "Prompt template", max_chars=MOST_LETTERS, placeholder=offered.template, height="content",
            help="Another prompt with the placeholders in braces; empty: the task's own.",
        )  # fmt: skip
        cases = _choose_cases(name, offered, own=not template)
        framing, metric = _choose_framing(name), _choose_metric(name)
    return Reading(name, shots, template or None, framing=framing, metric=metric, cases=cases)


def _choose_cases(name: str, offered: _OnOffer, *, own: bool) -> Cases:
    """How cases are split, what is held out, and in how many wordings they are asked; `own`: in those of the task."""
    of_rule: links.Linked[str] = links.restore(
        "splits", SPLIT_RULES[0], links.one_of(offered.rules), key=f"splits-{name}"
    )
    of_held = links.restore("hold-out", NOTHING, links.one_of((NOTHING, *offered.held_out)), key=f"hold-out-{name}")
    of_slice = links.restore("only", "", links.text_up_to(MOST_LETTERS), key=f"only-{name}")
    of_count = links.restore("wordings", 1, links.whole_in(1, offered.wordings), key=f"wordings-{name}")
    rule: str = of_rule.usual
    if len(offered.rules) > 1:
        rule = st.selectbox(
            "Splits", offered.rules, key=of_rule.key, format_func=lambda one: _RULES[one], persist_state="session",
            help=_RULES_HELP,
        )  # fmt: skip
    published = rule != SPLIT_RULES[0]
    held_out = of_held.usual
    if offered.held_out:
        held_out = st.selectbox(
            "Held out for test", (NOTHING, *offered.held_out), key=of_held.key, persist_state="session",
            disabled=published, help=_HELD_OUT_HELP,
        )  # fmt: skip
    count = of_count.usual
    if offered.wordings > 1:
        count = st.number_input(
            "Wordings", 1, offered.wordings, key=of_count.key, persist_state="session", disabled=not own,
            help="In so many of the task's wordings the examples are asked, in turn. A template is one wording.",
        )  # fmt: skip
    slice_text = of_slice.draw(
        st.text_input, "Only", max_chars=MOST_LETTERS, placeholder="all examples",
        help="One slice of every split: COLUMN=VALUE, COLUMN=LOW..HIGH or COLUMN~TEXT, such as answer=12 or "
        "prompt~not. Slices on Prune fill it in.",
    ).strip()  # fmt: skip
    held_out, count = NOTHING if published else held_out, int(count) if own else 1
    of_rule.keep(rule)
    of_held.keep(held_out)
    of_count.keep(count)
    return as_cases(rule, None if held_out == NOTHING else held_out, count, only=slice_text or None)


def work_on_slice(condition: str) -> None:
    """Ask the sidebar's task on one slice alone, or on all of it with an empty condition; for callbacks."""
    Widget[str](f"only-{state.TASK.value or DEFAULT}").put(condition)


def _choose_metric(name: str) -> str:
    """What counts as right."""
    linked = links.restore("metric", METRICS[0], links.one_of(METRICS), key=f"metric-{name}")
    return linked.draw(
        st.selectbox, "Right is", METRICS, format_func=_METRICS.__getitem__,
        help="What accuracy counts. A choice is the answer with the largest log-probability among the choices, summed "
        "over its tokens or per token; the others stand beside it.",
    )  # fmt: skip


def _choose_framing(name: str) -> Framing:
    """BOS token, chat and system message."""
    of_bos = links.restore("bos", BOS_RULES[0], links.one_of(BOS_RULES), key=f"bos-{name}")
    of_chat = links.restore(
        "chat", False, {"1": True, "0": False}.get, key=f"chat-{name}", text=lambda on: str(int(on))
    )
    of_system = links.restore("system", "", links.text_up_to(MOST_LETTERS), key=f"system-{name}")
    bos = of_bos.draw(st.selectbox, "BOS token", BOS_RULES, help=_BOS_HELP)
    chat = of_chat.draw(st.toggle, "As a chat", help=_CHAT_HELP)
    system = st.text_area(
        "System message", key=of_system.key, max_chars=MOST_LETTERS, persist_state="session",
        placeholder="the template's own", height="content", disabled=not chat,
        help="The first message of the chat; empty: what the template says.",
    )  # fmt: skip
    said = system if chat else ""
    of_system.keep(said)
    return as_framing(bos, chat=chat, system=said or None)
