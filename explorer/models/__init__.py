"""Models: find one by name, folder, hub id or .gguf file, load it once, give every session a view of it."""

from explorer.models.adapters import adapted
from explorer.models.adapters import located as locate
from explorer.models.agreement import Fidelity
from explorer.models.caches import expanded, read_prefix
from explorer.models.convert import convert_bin
from explorer.models.files import ModelFiles, model_files
from explorer.models.load import as_basis, check_whole, load, read_again, read_config
from explorer.models.model import Basis, Model, View, ViewPool
from explorer.models.sources import NAMED, Source, available, fetch, full_name
from explorer.models.weights import check_stored

__all__ = [
    "NAMED",
    "Basis",
    "Fidelity",
    "Model",
    "ModelFiles",
    "Source",
    "View",
    "ViewPool",
    "adapted",
    "as_basis",
    "available",
    "check_stored",
    "check_whole",
    "convert_bin",
    "expanded",
    "fetch",
    "full_name",
    "load",
    "locate",
    "model_files",
    "read_again",
    "read_config",
    "read_prefix",
]
