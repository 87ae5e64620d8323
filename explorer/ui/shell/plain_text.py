"""Whether a model knows the words: of the plain text that comes with the explorer, and of a task."""

from __future__ import annotations

from typing import cast

import streamlit as st

from explorer.core.errors import TaskError
from explorer.measure.perplexity import TOKENS, read_text, tokens_of
from explorer.measure.tokens import task_notice
from explorer.models import Model
from explorer.tasks import Task


def reads(model: Model) -> bool:
    """Whether the model knows the words of the text; looked up once for a session."""
    known = cast("dict[str, bool]", st.session_state.setdefault("reads-text", {}))
    if model.as_loaded not in known:
        try:
            tokens_of(model.tokenizer, read_text(), TOKENS)
            known[model.as_loaded] = True
        except TaskError:
            known[model.as_loaded] = False
    return known[model.as_loaded]


def notice(model: Model, task: Task, split: str) -> str | None:
    """What to say of a split's prompts if the model's tokenizer does not know their words; looked up once."""
    known = cast("dict[tuple[str, str, str], str | None]", st.session_state.setdefault("reads-task", {}))
    key = (model.as_loaded, task.digest, split)
    if key not in known:
        try:
            known[key] = task_notice(model.tokenizer, task, getattr(task, split))
        except TaskError:
            known[key] = None  # whoever measures says what is wrong
    return known[key]
