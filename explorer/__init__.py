"""Eigenpruning explorer: score, remove and inspect the singular values of a language model's matrices.

The engine is a plain Python library; the pages and the command line read the same tables.

    from explorer import Kind, apply, default_cache, evaluate, load, load_task, prune

    view, task, svds = load("bundled").view(), load_task("int-mult"), default_cache()
    before = evaluate(view, task)
    mask = prune(view, task, svds, kinds=[Kind.Q, Kind.K], count=2)
    apply(view, mask, svds)
    after = evaluate(view, task)

Names are imported when first used (PEP 562), so that what needs no model starts without loading torch.

Method: "Eigenpruning: an Interpretability-Inspired PEFT Method", arXiv 2404.03147.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

# Before torch multiplies anything: MKL's results then do not depend on where in memory a matrix happens to lie.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if TYPE_CHECKING:
    from explorer.attribution import SCORERS, score
    from explorer.damage import damage
    from explorer.edit import apply, empty_mask
    from explorer.errors import ExplorerError
    from explorer.evaluate import Comparison, Evaluation, evaluate
    from explorer.keys import Kind, MatrixKey
    from explorer.masks import Mask, load_mask
    from explorer.model_diff import compare_matrix
    from explorer.models import Model, View, load
    from explorer.perplexity import perplexity
    from explorer.registry import matrices
    from explorer.scoring import alternatives
    from explorer.search import STRATEGIES, prune
    from explorer.svd_cache import SvdCache, default_cache
    from explorer.tasks import TASKS, Task, load_task

__all__ = [
    "SCORERS",
    "STRATEGIES",
    "TASKS",
    "Comparison",
    "Evaluation",
    "ExplorerError",
    "Kind",
    "Mask",
    "MatrixKey",
    "Model",
    "SvdCache",
    "Task",
    "View",
    "alternatives",
    "apply",
    "compare_matrix",
    "damage",
    "default_cache",
    "empty_mask",
    "evaluate",
    "load",
    "load_mask",
    "load_task",
    "matrices",
    "perplexity",
    "prune",
    "score",
]

# The same as the imports above, for the running program.
_NAMES = {
    "attribution": ("SCORERS", "score"),
    "damage": ("damage",),
    "edit": ("apply", "empty_mask"),
    "errors": ("ExplorerError",),
    "evaluate": ("Comparison", "Evaluation", "evaluate"),
    "keys": ("Kind", "MatrixKey"),
    "masks": ("Mask", "load_mask"),
    "model_diff": ("compare_matrix",),
    "models": ("Model", "View", "load"),
    "perplexity": ("perplexity",),
    "registry": ("matrices",),
    "scoring": ("alternatives",),
    "search": ("STRATEGIES", "prune"),
    "svd_cache": ("SvdCache", "default_cache"),
    "tasks": ("TASKS", "Task", "load_task"),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `explorer.evaluate` the function: importing a submodule would otherwise put the module in its place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULE_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
