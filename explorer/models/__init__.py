"""Models: find one by name, folder, hub id or .gguf file, load it once, give every session a view of it."""

from explorer.models.load import Model, load
from explorer.models.sources import NAMED, Source, available, fetch
from explorer.models.view import View, ViewPool

__all__ = ["NAMED", "Model", "Source", "View", "ViewPool", "available", "fetch", "load"]
