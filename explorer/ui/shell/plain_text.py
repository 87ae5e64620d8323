"""Whether a model knows the words: of the plain text that comes with the explorer, and of a task."""

from __future__ import annotations

from dataclasses import dataclass, field

from explorer.core.errors import TaskError
from explorer.measure.perplexity import TOKENS, read_text, tokens_of
from explorer.measure.tokens import task_notice
from explorer.models import Model
from explorer.tasks import Task
from explorer.ui.session import state


@dataclass
class _LookedUp:
    """Whether models know the words of the text, and what is to be said of tasks."""

    models: dict[str, bool] = field(default_factory=dict)
    tasks: dict[tuple[str, str, str], str | None] = field(default_factory=dict)


def reads(model: Model) -> bool:
    """Whether the model knows the words of the text; looked up once for a session."""
    known = state.of(_LookedUp).models
    if model.as_loaded not in known:
        try:
            tokens_of(model.tokenizer, read_text(), TOKENS)
            known[model.as_loaded] = True
        except TaskError:
            known[model.as_loaded] = False
    return known[model.as_loaded]


def notice(model: Model, task: Task, split: str) -> str | None:
    """What to say of a split's prompts if the model's tokenizer does not know their words; looked up once."""
    known = state.of(_LookedUp).tasks
    key = (model.as_loaded, task.digest, split)
    if key not in known:
        try:
            known[key] = task_notice(model.tokenizer, task, getattr(task, split))
        except TaskError:
            known[key] = None  # whoever measures says what is wrong
    return known[key]
