"""How a mask was found, written into it."""

from __future__ import annotations

from explorer.core.measuring import LIBRARIES, version_of
from explorer.masks.mask import Provenance
from explorer.tasks import USUAL_CASES, Task

PACKAGES = ("eigenprune-explorer", *LIBRARIES)


def provenance(
    *,
    task: Task | str,
    split: str,
    examples: int,
    seed: int,
    scorer: str,
    strategy: str | None = None,
) -> Provenance:
    """Provenance with the versions of the packages that decide what a mask does.

    A whole task is noted with its digest, shots, template and framing; of one given by name, only that is known.
    """
    made = Provenance(
        task=task if isinstance(task, str) else task.name, split=split, examples=examples, seed=seed, scorer=scorer,
        strategy=strategy, versions=versions(),
    )  # fmt: skip
    if isinstance(task, str):
        return made
    asked = {"task_digest": task.digest, "shots": task.shots, "template": task.template, **task.framing.as_dict()}
    asked |= {**task.cases.as_dict(), "splits": None if task.cases.splits == USUAL_CASES.splits else task.cases.splits}
    return made.model_copy(update=asked | ({} if task.metric == "auto" else {"metric": task.metric}))


def versions() -> dict[str, str]:
    """Versions of PACKAGES."""
    return {package: version_of(package) for package in PACKAGES}
