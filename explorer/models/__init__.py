"""Models: find one by name, folder, hub id or .gguf file, load it once, give every session a view of it."""

from explorer.models.convert import convert_bin
from explorer.models.files import ModelFiles, model_files
from explorer.models.load import Basis, Model, as_basis, load, read_again, read_config
from explorer.models.sources import NAMED, Source, available, fetch, locate
from explorer.models.view import View, ViewPool

__all__ = [
    "NAMED",
    "Basis",
    "Model",
    "ModelFiles",
    "Source",
    "View",
    "ViewPool",
    "as_basis",
    "available",
    "convert_bin",
    "fetch",
    "load",
    "locate",
    "model_files",
    "read_again",
    "read_config",
]
