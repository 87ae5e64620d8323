"""What is known of a mask's values, as tables (parquet) with a data card: scores, exact effects, directions.

`values` has a row for every singular value of the kinds that the mask is of, `removed` one for every removed value,
with its two vectors at the places of the module that stores its matrix. The second table is the whole edit: its client
puts it onto the unpruned model from the rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.attribution import SCORERS, Options, Scores, score
from explorer.attribution.effect_store import default_effects
from explorer.attribution.exact import exact_effects
from explorer.core.files import file_digest, write_text
from explorer.core.keys import MatrixKey
from explorer.export.base import FolderNotes, Format, Order
from explorer.export.card import README, header
from explorer.export.checkpoint import stamp
from explorer.export.edit import Edit, columns
from explorer.masks.apply import apply
from explorer.measure.batches import batches
from explorer.measure.metrics import Mean
from explorer.models.architectures import architecture
from explorer.models.matrices import matrices
from explorer.spectra.cache import warn
from explorer.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa

RESAMPLES = 100
MEASURED = 64  # removed values whose exact effect is measured, those with the largest scores in size

_PLACE = {
    "matrix": "the matrix: layer, kind and head, such as L0.K.H1",
    "layer": "its layer, from 0",
    "kind": "Q, K, V, O, IN, GATE or OUT",
    "head": "its head, from 0; null for a whole matrix",
    "index": "which of its singular values, from 0, the largest first",
    "sigma": "the singular value",
}
TABLES = {
    "values": {
        "task": "the task on whose train split it was scored",
        **_PLACE,
        "score": "predicted change of the mean loss if it alone is removed, nats per example; negative: removing helps",
        "stderr": "standard error of the score over examples",
        "uncertain": "whether the sign of the score is in doubt",
        "c": "the frozen mean of its input; of a removed value that of the mask",
        "exact": "measured change of the mean loss if it alone is removed, nats per example; null if not measured",
        "exact_stderr": "standard error of the measured change over examples",
        "removed": "whether the mask removes it",
    },
    "removed": {
        **_PLACE,
        "label": "what people call it; null if nothing",
        "module": "the module of the Hugging Face model that stores the matrix",
        "reads": "one number per input of the module",
        "offset": "what input times `reads` is frozen at",
        "writes": "one number per output of the module, which gets (input times `reads` - `offset`) times this added",
    },
}


def _write(edit: Edit, folder: Path, order: Order) -> FolderNotes:
    rows: list[dict[str, Any]] = []
    notes = []
    for task in order.tasks:
        scores = _scores(edit, task)
        effects = _effects(edit, task, scores)
        rows += _values(edit, scores, effects)
        notes.append(
            f"Task {task.name}: scored by {scores.scorer} on {scores.n:,} train examples, {scores.size:,} values; "
            f"exact effects of {len(effects):,} of the {len(edit.mask):,} removed ones."
        )
    apply(edit.view, edit.mask, edit.svds)
    tables = {"values": rows, "removed": list(_removed(edit))}
    digests = {name: file_digest(_saved(folder / f"{name}.parquet", found, edit)) for name, found in tables.items()}
    write_text(folder / README, "\n".join(header(None, DATASET, digests)))
    readers = "datasets, pandas, polars, DuckDB, and whatever else reads parquet."
    return FolderNotes(readers, tuple(notes), digests=digests)


def _scores(edit: Edit, task: Task) -> Scores:
    """Scores of all matrices of the mask's kinds, by the mask's own scorer where that is quick."""
    mask, made = edit.mask, edit.mask.provenance
    kinds = tuple(dict.fromkeys(key.kind for key in mask.by_matrix))
    whole = {key for key in mask.by_matrix if key.head is None}
    found = matrices(edit.view, kinds)
    keys = tuple(dict.fromkeys(key.stacked if key.stacked in whole else key for key in found))
    scorer = made.scorer if made.scorer in SCORERS and SCORERS[made.scorer].linear else "gradient"
    return score(
        edit.view, task, edit.svds, keys=keys, scorer=scorer, mode=mask.mode, limit=_limit(edit, task), seed=task.seed,
        options=Options(bootstrap=RESAMPLES),
    )  # fmt: skip


def _limit(edit: Edit, task: Task) -> int | None:
    """Of the task that the mask was made on: as many train examples as then."""
    made = edit.mask.provenance
    return made.examples if made.split == "train" and made.task_digest == task.digest else None


def _effects(edit: Edit, task: Task, scores: Scores) -> dict[tuple[MatrixKey, int], Mean]:
    places = [(key, one.index) for key, removed in edit.mask.by_matrix.items() for one in removed]
    places.sort(key=lambda place: -abs(float(scores.matrices[place[0]].score[place[1]])))
    cut = batches(edit.view, task, task.split("train", _limit(edit, task)))
    measured = exact_effects(
        edit.view, cut, edit.svds, values=places[:MEASURED], mode=edit.mask.mode, store=default_effects(warn)
    )
    return dict(measured.values)


def _values(edit: Edit, scores: Scores, effects: dict[tuple[MatrixKey, int], Mean]) -> Iterator[dict[str, Any]]:
    for key, matrix in scores.matrices.items():
        own = {one.index: one for one in edit.mask.by_matrix.get(key, ())}
        for index, sigma in enumerate(matrix.s.tolist()):
            exact = effects.get((key, index))
            yield {
                "task": scores.task,
                **_place(key, index, sigma),
                "score": float(matrix.score[index]),
                "stderr": None if matrix.stderr is None else float(matrix.stderr[index]),
                "uncertain": None if matrix.uncertain is None else bool(matrix.uncertain[index]),
                "c": own[index].c if index in own else float(matrix.c[index]),
                "exact": None if exact is None else exact.value,
                "exact_stderr": None if exact is None else exact.stderr,
                "removed": index in own,
            }


def _removed(edit: Edit) -> Iterator[dict[str, Any]]:
    stored = architecture(edit.raw.model.source.name, edit.raw.model.architecture)
    labels = {one.place: one.label for one in edit.mask.labels}
    for site, change in edit.changes.items():
        outputs, width = columns(edit.raw, site)
        writes = change.right.new_zeros(change.rank, width)
        writes[:, outputs] = change.right
        values = [(key, one) for key, removed in edit.mask.by_matrix.items() if key.stacked == site for one in removed]
        for row, (key, one) in enumerate(values):
            yield {
                **_place(key, one.index, one.sigma),
                "label": labels.get((one.matrix, one.index)) or None,
                "module": stored.module(key.layer, key.kind),
                "reads": change.left[:, row].tolist(),
                "offset": float(change.means[row]),
                "writes": writes[row].tolist(),
            }


def _place(key: MatrixKey, index: int, sigma: float) -> dict[str, Any]:
    return {
        "matrix": str(key), "layer": key.layer, "kind": str(key.kind), "head": key.head, "index": index, "sigma": sigma,
    }  # fmt: skip


def _saved(path: Path, rows: list[dict[str, Any]], edit: Edit) -> Path:
    """Write a table as parquet, which says in its schema what it is of."""
    import pyarrow as pa
    from pyarrow import parquet

    fields = [pa.field(name, _type(name), metadata={"about": about}) for name, about in TABLES[path.stem].items()]
    schema = pa.schema(fields, metadata={"eigenprune": json.dumps(stamp(edit))})
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def _type(column: str) -> pa.DataType:
    import pyarrow as pa

    if column in ("reads", "writes"):
        return pa.list_(pa.float64())
    if column in ("layer", "head", "index"):
        return pa.int32()
    if column in ("removed", "uncertain"):
        return pa.bool_()
    return pa.string() if column in ("task", "matrix", "kind", "label", "module") else pa.float64()


DATASET = Format(
    label="Data set",
    about="Scores, exact effects and the removed directions themselves as parquet tables, with a data card.",
    client="datasets",
    snippet='from datasets import load_dataset\n\nvalues = load_dataset({folder}, "values", split="train")\n'
    'removed = load_dataset({folder}, "removed", split="train")\n',
    write=_write,
    library="datasets",
    tables=TABLES,
)
