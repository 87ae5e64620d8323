"""Whether a model can read the plain text that comes with the explorer."""

from __future__ import annotations

from typing import cast

import streamlit as st

from explorer.errors import TaskError
from explorer.models import Model
from explorer.perplexity import TOKENS, read_text, tokens_of


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
