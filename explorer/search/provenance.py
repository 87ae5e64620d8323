"""How a mask was found, written into it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from explorer.masks import Provenance

PACKAGES = ("eigenprune-explorer", "torch", "transformers", "transformer-lens")


def provenance(*, task: str, split: str, examples: int, seed: int, scorer: str) -> Provenance:
    """Provenance with the versions of the packages that decide what a mask does."""
    versions = {package: _version(package) for package in PACKAGES}
    return Provenance(task=task, split=split, examples=examples, seed=seed, scorer=scorer, versions=versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "not installed"
