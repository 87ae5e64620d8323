"""Models: find one by name, folder, hub id or .gguf file, load it once, give every session a view of it."""

from explorer.models.load import Basis, Model, as_basis, load, read_again, read_config
from explorer.models.sources import NAMED, Source, available, fetch, locate
from explorer.models.view import View, ViewPool

__all__ = [
    "NAMED",
    "Basis",
    "Model",
    "Source",
    "View",
    "ViewPool",
    "as_basis",
    "available",
    "fetch",
    "load",
    "locate",
    "read_again",
    "read_config",
]
