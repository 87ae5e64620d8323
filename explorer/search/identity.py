"""What decides the result of a search: two searches with one digest measure the same things in the same order."""

from __future__ import annotations

from explorer.core.files import digest
from explorer.core.measuring import searches_digest
from explorer.models.tensors import tensor_bytes
from explorer.search.problem import Problem


def search_digest(problem: Problem, strategy: str, settings: object = None) -> str:
    """SHA-256 over model, types and device, examples, strategy, settings, budget, text, libraries and code.

    The test split is not among it: no search sees it. Code is what measures and decides (`explorer.core.measuring`).

    Args:
        problem: before the search.
        strategy: its name.
        settings: the strategy's, with a `repr` that shows all of them (a dataclass); None for its defaults.
    """
    parts = {
        "model": problem.view.model.as_loaded,
        "task": (problem.task.digest, problem.limit, problem.seed),
        "strategy": (strategy, settings),
        "values": ([str(key) for key in problem.keys], problem.mode, problem.scorer, problem.budget),
        "compute": problem.proposing_dtype,
        "text": digest(tensor_bytes(block) for block in problem.text),
        "with": searches_digest(),
    }
    return digest([repr(parts).encode()])
