"""The `delta` basis: what is decomposed is by how much a matrix differs from that of a base model.

Of a fine-tune, or of a base model with an adapter merged into it, with weights W' where the base has W,

    D = W' - W,

so that removing a value of D from W' undoes one direction of the fine-tuning, and removing all of them gives W, bit for
bit (`explorer.masks.apply`). All else is as in the raw basis: the weights that run are those of the fine-tune. The
base's are read from its files, one matrix at a time; it is never in memory as a whole.

Both are rounded where they are stored, so that D holds rounding errors of W'. They have the size u = eps / 2 of their
number at most, and the singular values that they make are no larger than u |W'|_F (Weyl). Values below twice that, and
below max(d_in, d_out) eps s_0 as in any other basis, are null: exactly 0, with vectors of zeros. An adapter of rank r
then has r values in every matrix that it changes, and none in the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explorer.core.errors import ModelError
from explorer.models.architectures import architecture
from explorer.models.files import ModelFiles
from explorer.models.identity import stored_weights
from explorer.models.sources import Source


@dataclass(frozen=True, eq=False)
class DeltaBase:
    """The model whose weights are subtracted.

    Attributes:
        source: where it is.
        weights: digest of its weights as they are stored; part of the identity of what is decomposed.
        files: its files.
        prefix: what names in the model begin with, and names in the files may not.
    """

    source: Source
    weights: str
    files: ModelFiles = field(repr=False)
    prefix: str
    _stamps: Mapping[Path, tuple[int, int]] = field(repr=False)

    def stored(self, name: str) -> str | None:
        """The name under which its files hold a weight; None if they do not."""
        return stored_name(self.files, name, self.prefix)

    def read(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """One of its weights, as loading it in a type would have it; None if it does not store it.

        Raises:
            ModelError: its files have changed since they were looked at.
        """
        stored = self.stored(name)
        if stored is None:
            return None
        path = self.files.tensors[stored].path
        try:
            unchanged = _stamp(path) == self._stamps[path]
        except OSError:
            unchanged = False
        if not unchanged:
            raise ModelError(f"the files of {self.source.name} have changed since it was chosen: load the model again.")
        found: Tensor = self.files.read(stored)
        return found.to(dtype)


@dataclass(frozen=True, eq=False)
class Described:
    """A model of which nothing but configuration and headers has been read.

    Attributes:
        source: where it is.
        files: its files.
        empty: the Hugging Face model on the `meta` device, as `explorer.models.check_stored` gives it.
    """

    source: Source
    files: ModelFiles
    empty: Any

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.source.name

    @property
    def prefix(self) -> str:
        """What names in the model begin with, and names in the files may not."""
        return str(self.empty.base_model_prefix)

    def matrices(self) -> dict[str, tuple[int, ...]]:
        """The stored shape of every weight that holds matrices, by its name."""
        own = dict(self.empty.named_parameters())
        placed = architecture(self.name, type(self.empty).__name__)
        layers = range(len(self.empty.get_submodule(placed.blocks)))
        names = [f"{placed.module(layer, kind)}.weight" for layer in layers for kind in placed.kinds]
        return {name: tuple(own[name].shape) for name in names}

    def read(self, name: str) -> Tensor:
        """A weight, as it is stored.

        Raises:
            ModelError: it is not stored under its name.
        """
        stored = stored_name(self.files, name, self.prefix)
        if stored is None:
            raise ModelError(
                f"{self.name} stores no {name} under that name: load it with transformers, and save it with "
                "`save_pretrained`."
            )
        found: Tensor = self.files.read(stored)
        return found


def stored_name(files: ModelFiles, name: str, prefix: str) -> str | None:
    """A weight's name in a model's files: checkpoints of a bare base model leave the first part out."""
    return next((one for one in (name, name.removeprefix(f"{prefix}.")) if one in files.tensors), None)


def delta_base(tuned: Described, base: Described) -> DeltaBase:
    """The base of a fine-tune.

    Raises:
        ModelError: a base of another class or of other shapes, or one with the same matrices.
    """
    mine, its = (type(one.empty).__name__ for one in (tuned, base))
    if mine != its:
        raise ModelError(
            f"{tuned.name} is a {mine}, {base.name} a {its}: only models of one architecture have a difference; give "
            "the model that it was fine-tuned from."
        )
    _check(tuned, base)
    weights, _ = stored_weights(base.files.weights, dict(base.empty.named_parameters()), base.prefix)
    stamps = {path: _stamp(path) for path in base.files.weights}
    return DeltaBase(base.source, weights, base.files, prefix=base.prefix, _stamps=stamps)


def _check(tuned: Described, base: Described) -> None:
    """Refuse a base whose matrices have other shapes, or the same numbers."""
    mine, its = tuned.matrices(), base.matrices()
    for name in (*mine, *its):
        here, there = (list(one[name]) if name in one else "not there" for one in (mine, its))
        if here != there:
            raise ModelError(
                f"{name} is {here} in {tuned.name} and {there} in {base.name}: give the model that it was fine-tuned "
                "from."
            )
    if all(torch.equal(tuned.read(name).double(), base.read(name).double()) for name in mine):
        raise ModelError(
            f"{tuned.name} has the same matrices as {base.name}, so that there is no difference to decompose: give the "
            "model that it was fine-tuned from, or another basis."
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
