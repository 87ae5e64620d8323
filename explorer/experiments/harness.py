"""The lm-evaluation-harness itself on a view, with a mask and without: its tasks, its figures, paired by document."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.core.errors import ExplorerError, TaskError, in_a_line
from explorer.core.logs import silenced
from explorer.core.progress import Progress
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.measure.paired import bootstrap_interval, mcnemar
from explorer.models import View
from explorer.models.plain import plain_model
from explorer.spectra.cache import SvdCache
from explorer.tasks.harness import LOGGER, installed, own_tasks, sandbox
from explorer.tasks.harness_data import check_source
from explorer.tasks.harness_yaml import code_in, merged_fields

SUFFIX = "*.yaml"
MEAN_TOLERANCE = 1e-9
RESAMPLED = 1000  # resamplings for the harness' standard errors of figures that are no means


@dataclass(frozen=True)
class HarnessRun:
    """What the harness is asked.

    Attributes:
        tasks: its tasks, groups or tags.
        folder: where further task files lie; their templates are rendered in a sandbox, and none may run code.
        shots: documents shown in front of every prompt; None leaves it to each task.
        limit: the first so many documents of each task; None for all.
        batch: sequences that are run at once.
    """

    tasks: tuple[str, ...]
    folder: Path | None = None
    shots: int | None = None
    limit: int | None = None
    batch: int = 8


@dataclass(frozen=True)
class HarnessFigure:
    """One metric of one task of the harness, with a mask and without, on the same documents.

    Attributes:
        metric, filter: as the harness calls them.
        n: documents.
        higher_is_better: None where the harness does not say.
        baseline, masked: its figures, with its standard errors (None where it has none).
        change: masked - baseline.
        change_interval: paired 95 % bootstrap interval over documents; None for a figure that is no mean of them.
        repaired, broken, p: documents that went from 0 to 1 and back, and McNemar's exact test; None for other values.
    """

    task: str
    metric: str
    filter: str
    n: int
    higher_is_better: bool | None
    baseline: float
    baseline_stderr: float | None
    masked: float
    masked_stderr: float | None
    change: float
    change_interval: tuple[float, float] | None
    repaired: int | None
    broken: int | None
    p: float | None


def run_harness(
    view: View, mask: Mask, svds: SvdCache, run: HarnessRun, *, progress: Progress | None = None
) -> tuple[HarnessFigure, ...]:
    """Run the harness on the unpruned model and under a mask.

    Args:
        view: of the mask's model; has the empty mask afterwards.
        mask: what is removed.
        svds: decompositions.
        run: what is asked.
        progress: told (runs done, 2).

    Raises:
        TaskError: the harness is not installed, or cannot run these tasks; a file of the folder that runs code.
        MaskError: another model's mask.
    """
    installed()
    manager = _manager(run)
    sides = []
    try:
        for done, state in enumerate((empty_mask(view.model), mask)):
            if progress is not None:
                progress(done, 2)
            apply(view, state, svds)
            sides.append(_evaluated(view, run, manager))
    finally:
        apply(view, empty_mask(view.model), svds)
    return tuple(_figures(*sides))


def _manager(run: HarnessRun) -> Any:
    """The harness' list of tasks; every file of a folder that may be run is looked into first."""
    from lm_eval.tasks import TaskManager

    mine = set() if run.folder is None else _names_in(run.folder, run.tasks)
    others = [name for name in run.tasks if name not in mine]
    for name in others:
        if name not in own_tasks():
            raise TaskError(f"the lm-evaluation-harness has no task {name[:60]!r}: see `lm-eval ls tasks`.")
    folder = None if run.folder is None else str(run.folder)
    with silenced(LOGGER):
        return TaskManager(include_path=folder, include_defaults=bool(others))


def _names_in(folder: Path, asked: Sequence[str]) -> set[str]:
    """Names of the tasks, groups and tags of a folder.

    Raises:
        TaskError: no folder, a file that cannot be read, or one that runs code and may be among what is asked.
    """
    if not folder.is_dir():
        raise TaskError(f"{str(folder)[:80]} is no folder: give one that holds task files of the harness.")
    found = {path: merged_fields(path) for path in sorted(folder.rglob(SUFFIX))}
    tasks = {fields["task"] for fields in found.values() if isinstance(fields.get("task"), str)}
    several = any(name not in tasks for name in asked)  # a group or tag may have any of them
    names = set(tasks)
    for path, fields in found.items():
        if several or fields.get("task") in asked:
            _check_data_only(path, fields)
        tags = fields.get("tag") or []
        names |= {str(one) for one in (fields.get("group"), *([tags] if isinstance(tags, str) else tags)) if one}
    return names


def _check_data_only(path: Path, fields: Mapping[str, Any]) -> None:
    if (code := code_in(fields)) is not None or fields.get("class"):
        what = f"{code[0]} (!function {code[1][:60]})" if code else "class"
        raise TaskError(f"{path.name} runs code for {what}, which is never run here: leave it out, or the file.")
    if "dataset_path" in fields:
        check_source(fields["dataset_path"], path.name)


def _evaluated(view: View, run: HarnessRun, manager: Any) -> Any:
    """What `simple_evaluate` gives for the view as it is."""
    from lm_eval import simple_evaluate

    tokenizer = copy.deepcopy(view.model.tokenizer)  # the harness sets padding on it
    with ExitStack() as around:
        for one in (silenced(LOGGER), _own_randomness(), *((sandbox(),) if run.folder is not None else ())):
            around.enter_context(one)
        try:
            harness = _silent_harness()(pretrained=plain_model(view), tokenizer=tokenizer, batch_size=run.batch)
            return simple_evaluate(
                harness, tasks=list(run.tasks), num_fewshot=run.shots, limit=run.limit, task_manager=manager,
                log_samples=True, bootstrap_iters=RESAMPLED,
            )  # fmt: skip
        except ExplorerError:
            raise
        except Exception as error:  # tasks, data sets and metrics of the harness fail in their own ways
            raise TaskError(
                f"the lm-evaluation-harness cannot run {', '.join(run.tasks)[:80]} ({in_a_line(error, 160)}): check "
                "the tasks' data, which may have to be fetched where there is a network."
            ) from None


def _silent_harness() -> Any:
    """The harness' class of Hugging Face models, without its progress bars."""
    from lm_eval.models.huggingface import HFLM

    class SilentHarness(HFLM):  # type: ignore[misc]  # it comes without types
        """Hugging Face models without progress bars."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood(requests, disable_tqdm=True)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().loglikelihood_rolling(requests, disable_tqdm=True)

        def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
            return super().generate_until(requests, disable_tqdm=True)

    return SilentHarness


@contextmanager
def _own_randomness() -> Iterator[None]:
    """The harness seeds every generator of the process: they go on afterwards as if it had not."""
    state, numbers, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.set_rng_state(torch_state)


def _figures(baseline: Any, masked: Any) -> Iterator[HarnessFigure]:
    for task, samples in baseline["samples"].items():
        for name, value in baseline["results"][task].items():
            metric, _, chosen = name.partition(",")
            if not chosen or metric.endswith("_stderr"):
                continue
            before = _values(samples, metric, chosen)
            after = _values(masked["samples"][task], metric, chosen)
            paired = _paired(before, after, float(value))
            sides = [one["results"][task] for one in (baseline, masked)]
            figures = [float(one[name]) for one in sides]
            spreads = [_number(one.get(f"{metric}_stderr,{chosen}")) for one in sides]
            yield HarnessFigure(
                task=task, metric=metric, filter=chosen, n=len(before),
                higher_is_better=baseline.get("higher_is_better", {}).get(task, {}).get(metric),
                baseline=figures[0], baseline_stderr=spreads[0], masked=figures[1], masked_stderr=spreads[1],
                change=figures[1] - figures[0], **paired,
            )  # fmt: skip


def _values(samples: Sequence[Mapping[str, Any]], metric: str, chosen: str) -> list[Any]:
    """What each document counts, in the order of documents."""
    mine = sorted((one for one in samples if one["filter"] == chosen), key=lambda one: one["doc_id"])
    return [one[metric] for one in mine if metric in one]


def _paired(before: Sequence[Any], after: Sequence[Any], figure: float) -> dict[str, Any]:
    """Interval and test of a change, where the figure is the mean of numbers."""
    nothing = {"change_interval": None, "repaired": None, "broken": None, "p": None}
    numbers = all(isinstance(one, int | float | np.number) for one in (*before, *after))
    if not before or not numbers or abs(float(np.mean(before)) - figure) > MEAN_TOLERANCE:
        return nothing
    changes = [float(then) - float(first) for first, then in zip(before, after, strict=True)]
    interval = bootstrap_interval(changes)
    if not {float(one) for one in (*before, *after)} <= {0.0, 1.0}:
        return nothing | {"change_interval": interval}
    test = mcnemar([bool(one) for one in after], [bool(one) for one in before])
    return {"change_interval": interval, "repaired": test.repaired, "broken": test.broken, "p": test.p}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) else None
