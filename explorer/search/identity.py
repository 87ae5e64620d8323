"""What decides the result of a search: two searches with one digest measure the same things in the same order."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from explorer.files import digest
from explorer.registry import read_base
from explorer.search.problem import Problem
from explorer.search.provenance import versions
from explorer.tensors import tensor_bytes

SCREENS = ("cli", "ui")  # what they hold decides no result


def search_digest(problem: Problem, strategy: str, settings: object = None) -> str:
    """SHA-256 over model, type and device, examples, strategy, settings, budget, text, packages and this code.

    The test split is not among it: no search sees it.

    Args:
        problem: before the search.
        strategy: its name.
        settings: the strategy's, with a `repr` that shows all of them (a dataclass); None for its defaults.
    """
    view = problem.view
    parts = {
        "model": (view.model.digest, view.model.basis, str(read_base(view, problem.keys[0]).dtype), str(view.device)),
        "task": (problem.task.digest, problem.limit, problem.seed),
        "strategy": (strategy, settings),
        "values": ([str(key) for key in problem.keys], problem.mode, problem.scorer, problem.budget),
        "text": digest(tensor_bytes(block) for block in problem.text),
        "with": (sorted(versions().items()), _code()),
    }
    return digest([repr(parts).encode()])


@cache
def _code() -> str:
    """Digest of the engine's source: a changed strategy must not go on from what another one measured."""
    root = Path(__file__).parent.parent
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    engine = sorted(path for path in files if path.parts[0] not in SCREENS)
    return digest(part for path in engine for part in (path.as_posix().encode(), (root / path).read_bytes()))
