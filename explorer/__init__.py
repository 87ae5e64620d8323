"""Eigenpruning explorer: score, remove and inspect the singular values of a language model's matrices.

The engine is a plain Python library; the pages and the command line read the same tables.

    import explorer as ep

    model = ep.load("bundled")
    task = ep.load_task("int-mult")
    scores = model.score(task, kinds="QK")
    report = model.search(task, kinds="QK", strategy="verified", max_removed=20)
    with model.pruned(report.mask) as view:
        print(view.evaluate(task).accuracy)
    report.mask.save("m.json")

Names are imported when first used (PEP 562), so that what needs no model starts without loading torch.

Method: "Eigenpruning: an Interpretability-Inspired PEFT Method", arXiv 2404.03147.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

# Before torch multiplies anything: MKL's results then do not depend on where in memory a matrix happens to lie.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if TYPE_CHECKING:
    from explorer import widget
    from explorer.actions.loaded import LoadedModel, PrunedModel, load
    from explorer.actions.push import push
    from explorer.attribution import SCORERS, score
    from explorer.core.errors import ExplorerError
    from explorer.core.keys import Kind, MatrixKey
    from explorer.export import FORMATS
    from explorer.export.run import Exported
    from explorer.masks.apply import apply, empty_mask
    from explorer.masks.damage import damage
    from explorer.masks.mask import Mask, load_mask
    from explorer.measure.choices import alternatives
    from explorer.measure.evaluate import Comparison, Evaluation, evaluate
    from explorer.measure.generation import Decoding
    from explorer.measure.perplexity import perplexity
    from explorer.models import Model, View
    from explorer.models.matrices import matrices
    from explorer.search import STRATEGIES, prune
    from explorer.search.evidence.choice import EvidenceChoice
    from explorer.spectra.cache import SvdCache, default_cache
    from explorer.spectra.model_diff import compare_matrix
    from explorer.tasks import TASKS, Framing, Task, load_task

__all__ = [
    "FORMATS",
    "SCORERS",
    "STRATEGIES",
    "TASKS",
    "Comparison",
    "Decoding",
    "Evaluation",
    "EvidenceChoice",
    "ExplorerError",
    "Exported",
    "Framing",
    "Kind",
    "LoadedModel",
    "Mask",
    "MatrixKey",
    "Model",
    "PrunedModel",
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
    "push",
    "score",
    "widget",
]

# The same as the imports above, for the running program.
_NAMES = {
    "actions.loaded": ("LoadedModel", "PrunedModel", "load"),
    "actions.push": ("push",),
    "attribution": ("SCORERS", "score"),
    "masks.damage": ("damage",),
    "masks.apply": ("apply", "empty_mask"),
    "core.errors": ("ExplorerError",),
    "export": ("FORMATS",),
    "export.run": ("Exported",),
    "measure.evaluate": ("Comparison", "Evaluation", "evaluate"),
    "core.keys": ("Kind", "MatrixKey"),
    "masks.mask": ("Mask", "load_mask"),
    "spectra.model_diff": ("compare_matrix",),
    "models": ("Model", "View"),
    "measure.generation": ("Decoding",),
    "measure.perplexity": ("perplexity",),
    "models.matrices": ("matrices",),
    "measure.choices": ("alternatives",),
    "search": ("STRATEGIES", "prune"),
    "search.evidence.choice": ("EvidenceChoice",),
    "spectra.cache": ("SvdCache", "default_cache"),
    "tasks": ("TASKS", "Framing", "Task", "load_task"),
}
_MODULE_OF = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("eigenprune-explorer")
    if name == "widget":
        return import_module(f"{__name__}.widget")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
