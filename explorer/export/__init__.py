"""Formats in which a mask leaves the tool: one file per format, two tables.

`EXPORTS` are made of a mask and nothing else, and are downloaded. `FORMATS` are folders that hold the pruned model, its
change, or what is known of it, for programs that know nothing of masks; each is read again by its own client
(`explorer.export.verify`) before it counts as made.
"""

from __future__ import annotations

from explorer.export.base import Export, Format
from explorer.export.checkpoint import CHECKPOINT
from explorer.export.dataset import DATASET
from explorer.export.gguf_file import GGUF
from explorer.export.hooks import HOOKS
from explorer.export.lora import LORA
from explorer.export.mask_json import MASK_JSON

__all__ = ["EXPORTS", "FORMATS", "Export", "Format"]

FORMATS: dict[str, Format] = {"checkpoint": CHECKPOINT, "lora": LORA, "hooks": HOOKS, "dataset": DATASET, "gguf": GGUF}

EXPORTS: dict[str, Export] = {"mask": MASK_JSON}
