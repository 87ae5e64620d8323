"""The sidebar's task: which one, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from explorer.files import typed_path
from explorer.tasks import BOS_RULES, METRICS, MOST_SHOTS, SPLITS, SUFFIXES, TASKS, Framing, Task, as_framing
from explorer.tasks.metric import METRIC_NAMES
from explorer.ui import links
from explorer.ui.task_reading import Reading
from explorer.ui.words import literal

DEFAULT = "int-mult"
MOST_LETTERS = 2000  # of a prompt template
UPLOADED = "JSONL or CSV file…"
FILE_HINT = "Choose a task file in the sidebar to go on."
READING_HINT = "The task is being read: the sidebar shows how far."
DATA_HINT = "Give a folder of SuperGLUE's JSON lines in the sidebar, or choose another task, to go on."
_METRICS: Mapping[str, str] = {"auto": "choice where all have choices, else exact match", **METRIC_NAMES}
_FILE_HELP = (
    "One example per line, as a JSON object or a line of CSV: `prompt` and `answer`, perhaps `choices`, `distractor` "
    "and `split`."
)
_BOS_HELP = (
    "In front of every prompt. auto: if the tokenizer has one and the task wants one; in a chat as its template says."
)
_CHAT_HELP = (
    "Through the tokenizer's chat template: the prompt is the user's turn, the answer, without blanks in front, the "
    "beginning of the assistant's; shots are earlier turns."
)


def choose() -> tuple[Task | None, str]:
    """Draw the choice; the task, or None and what to do next (a reason is on the page if there is one)."""
    names = [*TASKS, UPLOADED]
    name = st.selectbox(
        "Task", names, index=names.index(DEFAULT), key="task", bind="query-params",
        help="What scores and accuracies are of. Examples are split into train, validation and test by a fixed seed.",
    )  # fmt: skip
    uploaded = name == UPLOADED
    needs_data = not uploaded and TASKS[name].needs_data
    upload, folder = None, None
    if uploaded:
        upload = st.file_uploader("Task file", type=list(SUFFIXES), key="task_file", help=_FILE_HELP)
    elif needs_data:
        folder = _choose_folder(name)
    shots, template, framing, metric = _choose_wording(name, "{prompt}" if uploaded else TASKS[name].template)
    hint = FILE_HINT if uploaded else DATA_HINT if needs_data else "Change the task in the sidebar to go on."
    if uploaded and upload is None:
        return None, hint
    if upload is not None:
        reading = Reading(upload.name, shots, template, content=upload.getvalue(), framing=framing, metric=metric)
    else:
        reading = Reading(name, shots, template, folder, framing=framing, metric=metric)
    task = reading.task()
    if task is None:
        return None, READING_HINT if reading.under_way else hint
    sizes = ", ".join(f"{len(getattr(task, split)):,} {split}" for split in SPLITS)
    st.caption(f"{literal(task.description)}: {sizes}")
    for sentence in task.notices:
        st.warning(literal(sentence), icon=":material/help:")
    return task, hint


def _choose_folder(name: str) -> Path | None:
    typed = st.text_input(
        "SuperGLUE folder",
        key="superglue",
        persist_state="session",
        placeholder="from the hub",
        help=f"A folder of this machine with {name}/train.jsonl and {name}/validation.jsonl; empty: from the hub.",
    )
    return typed_path(typed) or Path(typed) if typed else None


def _choose_wording(name: str, default: str) -> tuple[int, str | None, Framing, str]:
    """Shots, template, framing and metric; they start anew with each task."""
    shots_key, template_key = f"shots-{name}", f"template-{name}"
    links.restore("shots", shots_key, 0, _shots)
    links.restore("template", template_key, "", lambda text: text if len(text) <= MOST_LETTERS else None)
    with st.expander("How it is asked", icon=":material/chat:"):
        shots = int(
            st.number_input(
                "Shots",
                0,
                MOST_SHOTS,
                key=shots_key,
                persist_state="session",
                help="Solved train examples, the same for all, in front of every prompt.",
            )
        )
        template = st.text_area(
            "Prompt template",
            key=template_key,
            max_chars=MOST_LETTERS,
            persist_state="session",
            placeholder=default,
            height="content",
            help="Another prompt with the placeholders in braces; empty: the task's own.",
        )
        framing = _choose_framing(name)
        metric = _choose_metric(name)
    links.keep("shots", shots, 0)
    links.keep("template", template, "")
    return shots, template or None, framing, metric


def _choose_metric(name: str) -> str:
    """What counts as right."""
    key = f"metric-{name}"
    links.restore("metric", key, METRICS[0], lambda text: text if text in METRICS else None)
    metric = st.selectbox(
        "Right is",
        METRICS,
        format_func=lambda one: _METRICS[one],
        key=key,
        persist_state="session",
        help="What accuracy counts. A choice is the answer with the largest log-probability among the choices, summed "
        "over its tokens or per token; the others stand beside it.",
    )
    links.keep("metric", metric, METRICS[0])
    return metric


def _choose_framing(name: str) -> Framing:
    """BOS token, chat and system message."""
    bos_key, chat_key, system_key = f"bos-{name}", f"chat-{name}", f"system-{name}"
    links.restore("bos", bos_key, "auto", lambda text: text if text in BOS_RULES else None)
    links.restore("chat", chat_key, False, {"1": True, "0": False}.get)
    links.restore("system", system_key, "", lambda text: text if len(text) <= MOST_LETTERS else None)
    bos = st.selectbox("BOS token", BOS_RULES, key=bos_key, persist_state="session", help=_BOS_HELP)
    chat = st.toggle("As a chat", key=chat_key, persist_state="session", help=_CHAT_HELP)
    system = st.text_area(
        "System message",
        key=system_key,
        max_chars=MOST_LETTERS,
        persist_state="session",
        placeholder="the template's own",
        height="content",
        disabled=not chat,
        help="The first message of the chat; empty: what the template says.",
    )
    said = system if chat else ""
    links.keep("bos", bos, "auto")
    links.keep("chat", chat, False, lambda chosen: str(int(chosen)))
    links.keep("system", said, "")
    return as_framing(bos, chat=chat, system=said or None)


def _shots(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 4 and int(text) <= MOST_SHOTS else None
