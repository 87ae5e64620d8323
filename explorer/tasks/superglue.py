"""CB, COPA and RTE of SuperGLUE (Wang et al. 2019, arXiv 1905.00537), in the prompts of the published table.

SuperGLUE's validation split is the test split, as published, because the labels of its own test split are not public.
Its train split is cut by seed into train (80 %) and validation (20 %). Rows come from a local folder of SuperGLUE's
JSON lines or, without one, from the hub; labels may be words or numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from os.path import isfile  # unlike `Path.is_file`, False for what no file can be called
from pathlib import Path
from typing import Any

from explorer.core.errors import TaskError
from explorer.core.files import ordinary
from explorer.tasks.cases import Splits
from explorer.tasks.lines import json_rows
from explorer.tasks.spec import Cut, Row, TaskSpec

HUB_ID = "aps/super_glue"
VALIDATION_SHARE = 0.2
FILES = {"train": ("train.jsonl",), "validation": ("validation.jsonl", "val.jsonl")}
# The class labels in the order of their numbers, and what the published prompts call them.
CB_LABELS = {"entailment": " entails", "contradiction": " contradicts", "neutral": " is neutral"}
RTE_LABELS = {"entailment": " entails", "not_entailment": " contradicts"}
COPA_LABELS = {"choice1": " 1", "choice2": " 2"}
COPA_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def _reader(
    name: str, labels: Mapping[str, str], values: Callable[[Mapping[str, Any], str], dict[str, str]]
) -> Callable[[Cut, Path | None], Splits[Row]]:
    """Make the function that reads a task's rows from a folder or from the hub."""

    def row(record: Mapping[str, Any], where: str) -> Row:
        return Row(values(record, where), _label(record, labels, where), tuple(labels.values()))

    def read(cut: Cut, data: Path | None) -> Splits[Row]:
        source = _from_hub(name) if data is None else _from_folder(name, data)
        train, test = ([row(record, where) for record, where in source[split]] for split in FILES)
        held_out = {tuple(one.values.items()) for one in test}
        # A few premises with their hypotheses are in both of SuperGLUE's splits, or twice in one of them.
        distinct = {tuple(one.values.items()): one for one in train if tuple(one.values.items()) not in held_out}
        order = list(distinct.values())
        random.Random(cut.seed).shuffle(order)
        n_validation = round(VALIDATION_SHARE * len(order))
        random.Random(cut.seed).shuffle(test)
        return tuple(order[n_validation:]), tuple(order[:n_validation]), tuple(test)

    return read


def in_folder(name: str, folder: Path) -> bool:
    """Whether a folder has both files of a task in a folder of the task's name, or is that; they are not read."""
    return all(path is not None and path.parent.name.lower() == name for path in _paths(name, folder).values())


def stamps(name: str, folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Path, time of the last change and size of a task's files in a folder: as long as they stay, so does the task."""
    found = [(path, path.stat()) for path in _paths(name, folder).values() if path is not None]
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


def _paths(name: str, folder: Path) -> dict[str, Path | None]:
    """The file of each split, None where there is none; `folder` holds them, or has a folder that does."""
    places = [folder / name, folder / name.upper(), folder]
    candidates = {split: [place / file for place in places for file in names] for split, names in FILES.items()}
    return {split: next(filter(isfile, paths), None) for split, paths in candidates.items()}


def _from_folder(name: str, folder: Path) -> dict[str, list[tuple[Mapping[str, Any], str]]]:
    """Records of both files, each with the place to name in errors."""
    found = {}
    for split, path in _paths(name, folder).items():
        if path is None:
            raise TaskError(
                f"{folder} has no {name}/{FILES[split][0]}: give the folder of SuperGLUE's JSON lines, with "
                f"{name}/train.jsonl and {name}/validation.jsonl (or val.jsonl) in it."
            )
        found[split] = _records(path)
    return found


def _records(path: Path) -> list[tuple[Mapping[str, Any], str]]:
    shown = f"{path.parent.name}/{path.name}"
    try:
        lines = ordinary(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read ({error}): it should be UTF-8 JSON lines.") from None
    records: list[tuple[Mapping[str, Any], str]] = []
    for number, record in json_rows(lines):
        where = f"{shown}, line {number}"
        if isinstance(record, str):
            raise TaskError(f"{where}: not a JSON object that names each field once; SuperGLUE's have one per line.")
        records.append((record, where))
    if not records:
        raise TaskError(f"{shown} is empty: SuperGLUE's files have one JSON object per line.")
    return records


def _from_hub(name: str) -> dict[str, list[tuple[Mapping[str, Any], str]]]:
    """The same records through `datasets`, which keeps what it has fetched (set HF_HUB_OFFLINE=1 to use only that)."""
    try:
        from huggingface_hub import HfApi, constants

        if not constants.HF_HUB_OFFLINE:  # ask once: `datasets` tries for half a minute before it gives up
            HfApi().dataset_info(HUB_ID, timeout=10)
        from datasets import load_dataset

        found = load_dataset(HUB_ID, name)
        return {
            split: [(record, f"{HUB_ID}, {name}, {split} {n}") for n, record in enumerate(found[split])]
            for split in FILES
        }
    except Exception as error:  # its own errors and those of its HTTP and file libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise TaskError(
            f"{name} could not be had from the hub's {HUB_ID} ({reason}): give the folder of SuperGLUE's JSON lines "
            f"(--data DIR with {name}/train.jsonl and {name}/validation.jsonl)."
        ) from None


def _label(record: Mapping[str, Any], labels: Mapping[str, str], where: str) -> str:
    label = record.get("label")
    numbered = {str(number): answer for number, answer in enumerate(labels.values())}
    # bool first: JSON's true would count as 1
    known = None if isinstance(label, bool) else ({**numbered, **labels}).get(str(label))
    if known is None:
        raise TaskError(
            f"{where}: label {str(label)[:40]!r} is not known; expected {', '.join(labels)} or 0 to {len(labels) - 1}."
        )
    return known


def _text(record: Mapping[str, Any], field: str, where: str) -> str:
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"{where}: no {field}; SuperGLUE's lines have a text there.")
    return value


def _pair(record: Mapping[str, Any], where: str) -> dict[str, str]:
    return {field: _text(record, field, where) for field in ("premise", "hypothesis")}


def _copa(record: Mapping[str, Any], where: str) -> dict[str, str]:
    asked = _text(record, "question", where)
    if asked not in COPA_QUESTIONS:
        raise TaskError(f"{where}: question {asked[:40]!r} is not known; expected {' or '.join(COPA_QUESTIONS)}.")
    return {
        "premise": _text(record, "premise", where),
        "question": COPA_QUESTIONS[asked],
        "choice_1": _text(record, "choice1", where),
        "choice_2": _text(record, "choice2", where),
    }


CB = TaskSpec(
    "cb",
    "CommitmentBank: does the premise entail the hypothesis, contradict it, or neither?",
    "Premise: {premise}\n\nHypothesis: {hypothesis}\n\nDoes the premise entail, contradict or is neutral to the "
    "hypothesis?\nAnswer (entails, contradicts, is neutral): The premise",
    placeholders=("premise", "hypothesis"),
    read=_reader("cb", CB_LABELS, _pair),
    bos=False,
    needs_data=True,
    comes_split=True,
    chosen=True,
)
COPA = TaskSpec(
    "copa",
    "Choice of plausible alternatives: the cause or the result of the premise",
    "Premise: {premise}\n{question}\n\nAlternative 1: {choice_1}\nAlternative 2: {choice_2}\n\nWhat is the correct "
    "alternative?\nThe correct alternative is alternative",
    placeholders=("premise", "question", "choice_1", "choice_2"),
    read=_reader("copa", COPA_LABELS, _copa),
    bos=False,
    needs_data=True,
    comes_split=True,
    chosen=True,
)
RTE = TaskSpec(
    "rte",
    "Recognising textual entailment: does the premise entail the hypothesis?",
    "Premise: {premise}\n\nHypothesis: {hypothesis}\n\nDoes the premise entail or contradict to the hypothesis?\n"
    "Answer (entails or contradicts): The premise",
    placeholders=("premise", "hypothesis"),
    read=_reader("rte", RTE_LABELS, _pair),
    bos=False,
    needs_data=True,
    comes_split=True,
    chosen=True,
)
