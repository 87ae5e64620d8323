"""Everything that a user can ask for: one frozen request per action, which gives one result.

From a request follow its command, its Python, its TOML and its link (`explorer.actions.request`). A new action is a
file here and a line in `REQUESTS`.
"""

from explorer.actions.choices import ModelChoice, TaskChoice
from explorer.actions.evaluate import Evaluate
from explorer.actions.request import Request, Result, Tools

__all__ = ["REQUESTS", "Evaluate", "ModelChoice", "Request", "Result", "TaskChoice", "Tools"]

REQUESTS: tuple[type[Request], ...] = (Evaluate,)
