"""Which code and which libraries decide what is measured: what is kept on disk is found again under a digest of them.

A change to a plot, a page or a report leaves searches and exact effects where they are; a change to how a model runs,
how a value is removed or how a strategy goes on makes them new ones.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from explorer.core.files import digest

LIBRARIES = ("torch", "transformers", "transformer-lens")
# Modules, and packages with all that is in them, that decide the exact effect of a value on given tokens.
EFFECTS = (
    "attribution.base", "attribution.exact", "attribution.runs", "attribution.singles", "attribution.suffix",
    "core.finite", "core.keys", "masks.apply", "masks.fitting", "masks.mask", "measure.batches", "measure.chat",
    "measure.forest", "measure.metrics", "measure.prefix", "measure.residuals", "measure.tokens",
    "models.agreement", "models.architectures", "models.arithmetic", "models.bridge", "models.caches",
    "models.delta",
    "models.fidelity", "models.folding", "models.load", "models.matrices", "models.model", "models.norms",
    "models.rotary", "models.spread", "models.stored", "models.tensors", "models.weights", "spectra.cache",
    "spectra.narrow", "spectra.routes",
    "spectra.svd",
)  # fmt: skip
# Those that decide the result of a search beside.
SEARCHES = (
    "attribution", "masks.sets", "measure.evaluate", "measure.paired", "measure.perplexity", "measure.readers",
    "search",
)  # fmt: skip
# What decides the evidence beside a search's mask, which has no part in the search.
EVIDENCE = (
    "measure.clustered", "measure.multiple", "search.evidence.claim", "search.evidence.gather", "search.evidence.means",
    "search.evidence.members", "search.evidence.prompts", "search.evidence.repeats", "search.evidence.rivals",
    "search.evidence.searched", "search.evidence.trained", "search.evidence.tunable", "spectra.rotated",
)  # fmt: skip
# What decides where directions are active, beside.
CONTEXTS = ("measure.contexts", "measure.corpora", "measure.paired", "measure.perplexity")
# What belongs to these or is imported by them and decides no number: where things are kept, what they are called, what
# is made of a search. Whatever is read through them (a model, examples, a mask) is part of every name by its content.
CARRIERS = (
    *EVIDENCE, "attribution.effect_cells", "attribution.effect_costs", "attribution.effect_store",
    "attribution.interactions", "attribution.pace", "core.__init__", "core.config", "core.errors", "core.executor",
    "core.files", "core.logs", "core.measuring", "core.progress", "core.records", "core.sqlite", "masks.belonging",
    "masks.frozen", "masks.gain", "masks.labels", "masks.places", "masks.published", "measure.opened",
    "measure.overflow", "models.__init__", "models.adapters", "models.compute", "models.conversions", "models.convert",
    "models.culprits", "models.fetching", "models.fields", "models.files", "models.gguf", "models.gguf_header",
    "models.hub", "models.identity", "models.sources", "models.tokenizer_files", "search.conductor",
    "search.control_pool", "search.control_runs", "search.curve", "search.evidence.__init__", "search.evidence.choice",
    "search.evidence.columns", "search.evidence.figures", "search.evidence.sentence", "search.given", "search.identity",
    "search.mask_cells", "search.options", "search.provenance", "search.released", "search.released_measures",
    "search.report", "search.report_file", "search.request", "spectra.__init__", "spectra.measures", "spectra.pack",
    "spectra.saver", "spectra.store", "tasks",
)  # fmt: skip
_ROOT = Path(__file__).parents[1]


@cache
def effects_digest() -> str:
    """Digest of what decides exact effects, but for model, examples and mask."""
    return _digest(EFFECTS)


@cache
def searches_digest() -> str:
    """Digest of what decides the result of a search, but for what it is asked."""
    return _digest((*EFFECTS, *SEARCHES))


@cache
def evidence_digest() -> str:
    """Digest of what decides the evidence beside a search's mask, but for what it is asked."""
    return _digest((*EFFECTS, *SEARCHES, *EVIDENCE))


@cache
def contexts_digest() -> str:
    """Digest of what decides where directions are active, but for model, text and matrices."""
    return _digest((*EFFECTS, *CONTEXTS))


def sources(rooms: tuple[str, ...], root: Path = _ROOT) -> tuple[Path, ...]:
    """The source files of modules and packages, in order, each once; a name without a file has none.

    A package stands for all that is in it, but for carriers.
    """
    found: set[Path] = set()
    carriers = {_file(name, root) for name in CARRIERS}
    for room in rooms:
        place = root.joinpath(*room.split("."))
        found.update(set(place.rglob("*.py")) - carriers if place.is_dir() else (_file(room, root),))
    return tuple(sorted(path for path in found if path.is_file()))


def code_digest(rooms: tuple[str, ...], root: Path = _ROOT) -> str:
    """Digest of their sources."""
    files = ((file.relative_to(root).as_posix().encode(), file.read_bytes()) for file in sources(rooms, root))
    return digest(part for pair in files for part in pair)


def version_of(package: str) -> str:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "not installed"


def _file(name: str, root: Path) -> Path:
    return root.joinpath(*name.split(".")).with_suffix(".py")


def _digest(rooms: tuple[str, ...]) -> str:
    libraries = [(name, version_of(name)) for name in LIBRARIES]
    return digest([repr(libraries).encode(), code_digest(rooms).encode()])
