"""Export a mask: write a folder beside its place, read it again with its client, measure it, and move it into place.

Nothing is at the place until all of that has gone well. A folder that is there is only ever replaced if an export wrote
it (it holds `eigenprune.json`) and that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from explorer.core.config import check_writable
from explorer.core.errors import ExportError, SettingsError, TaskError
from explorer.core.files import file_digest, new_folder, replaceable, write_json, write_text
from explorer.core.progress import Progress
from explorer.export.base import FolderNotes, Format, Order, base_of
from explorer.export.card import README, card
from explorer.export.checkpoint import stamp
from explorer.export.edit import Edit, edited, zeroed
from explorer.export.verify import Runner, Verification, another_process, probe, verify
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import View
from explorer.models.hub import reason
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

RECORD, MASK = "eigenprune.json", "mask.json"
READERS = ("any", "vllm")


@dataclass(frozen=True)
class Exported:
    """An exported folder.

    Attributes:
        folder: where it is.
        sort: its format's name.
        files: sizes in bytes, by name.
        readers: who can read it, in a sentence.
        notes: what was done beside, in sentences.
        checked: what its client made of it.
        measured: for each task the pruned model beside the unpruned one.
        mask: what was exported.
    """

    folder: Path
    sort: str
    files: dict[str, int]
    readers: str
    notes: tuple[str, ...]
    checked: Verification
    measured: tuple[tuple[Task, Comparison], ...]
    mask: Mask

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def check_place(out: Path, *, force: bool) -> Path | None:
    """The folder at `out` that an export may replace; None if there is nothing to replace.

    Raises:
        ExportError: something is there that must stay.
    """
    check_writable(ExportError, "Exporting folders")
    return replaceable(
        out, "an export", ExportError, mark=RECORD, option="--out", force=force, written=lambda: _written(out)
    )  # fmt: skip


def _written(out: Path) -> set[str]:
    """Names of the files of an export, as its record has them."""
    try:
        files = json.loads((out / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{out / RECORD} does not say what the export wrote: give another --out.") from None
    return {*files, README, "__pycache__"}  # the last of a hook that was imported


def form_of(order: Order, forms: Mapping[str, Format]) -> Format:
    """The format of an order; raises SettingsError for one, or a reader, that is not known."""
    if order.sort not in forms:
        raise SettingsError(f"{order.sort[:40]!r} is no format of exports: choose one of {', '.join(forms)}.")
    if order.reader not in READERS:
        raise SettingsError(f"{order.reader[:40]!r} is no reader of exports: choose one of {', '.join(READERS)}.")
    if order.reader != "any" and order.sort != "lora":
        raise SettingsError(f"{order.reader} as the reader is about adapters: export a lora for it.")
    if not order.tasks:
        raise TaskError("an export is checked on the prompts of a task: give one.")
    return forms[order.sort]


def client_of(form: Format) -> str:
    """The program that reads a format, with its version.

    Raises:
        ExportError: it, or what else the format needs, is not installed.
    """
    try:
        form.needs()
        return f"{form.client} {version(form.client)}"
    except PackageNotFoundError:
        raise ExportError(
            f"{form.client} is not installed, and an export is only made if it can be read again: "
            "run `pip install 'eigenprune-explorer[export]'`."
        ) from None


def export(
    view: View,
    mask: Mask,
    svds: SvdCache,
    *,
    order: Order,
    forms: Mapping[str, Format],
    progress: Progress | None = None,
    run: Runner = another_process,
) -> Exported:
    """Write a pruned model in a format; see the module docstring. The view is unpruned afterwards.

    Args:
        view: of the mask's model.
        mask: what is exported.
        svds: decompositions.
        order: in which format, and where.
        forms: the formats.
        progress: told (done, total).
        run: runs the client.

    Raises:
        ExportError: a place that is taken or cannot be written, a change that the format cannot hold, or a client that
            does not read it as it was meant.
        MaskError, MatrixError, ModelError, TaskError: a mask or task that does not fit the model.
    """
    form, out = form_of(order, forms), order.out
    replaced, client = check_place(out, force=order.force), client_of(form)
    try:
        with new_folder(out, replaced=replaced) as folder:
            edit = edited(view, zeroed(mask) if order.zero else mask, svds)
            wanted = probe(view, order.tasks)
            _tell(progress, 20)
            written = form.write(edit, folder, order)
            _tell(progress, 40)
            checked = verify(
                view, folder, wanted, sort=order.sort, base=(written.onto or view.model.source).folder, client=client,
                leeway=form.leeway, run=run,
            )  # fmt: skip
            _tell(progress, 70)
            after = [evaluate(view, task, "test", limit=order.limit) for task in order.tasks]
            _tell(progress, 85)
            apply(view, empty_mask(view.model), svds)
            before = [evaluate(view, task, "test", limit=order.limit) for task in order.tasks]
            measured = tuple(zip(order.tasks, map(Comparison, after, before), strict=True))
            _portable(edit).save(folder / MASK)
            write_text(folder / README, card(edit, form, written, measured=measured, checked=checked))
            record = _record(edit, order.sort, written, checked=checked, measured=measured)
            record["files"] = {one.name: file_digest(one) for one in _files(folder) if one.name != README}
            write_json(folder / RECORD, record)
            files = {one.name: one.stat().st_size for one in _files(folder)}
        _tell(progress, 100)
    except (OSError, SafetensorError) as error:
        raise _unwritable(out, error) from None
    finally:
        apply(view, empty_mask(view.model), svds)
    return Exported(
        out, order.sort, files, readers=written.readers, notes=written.notes, checked=checked, measured=measured,
        mask=edit.mask,
    )  # fmt: skip


def _unwritable(out: Path, error: Exception) -> ExportError:
    why = getattr(error, "strerror", None) or reason(error)
    return ExportError(f"{out} cannot be written ({why}): choose another place.")


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file())


def _portable(edit: Edit) -> Mask:
    """The mask without the folder that its model lies in here; its digest stays."""
    base, revision = base_of(edit.view.model.source)
    known, subtracted = edit.mask.model, edit.view.model.against
    named: dict[str, Any] = {"source": base[:500], "revision": revision or known.revision}
    if subtracted is not None and known.against is not None:
        its, of_its = base_of(subtracted.source)
        update = {"source": its[:500], "revision": of_its or known.against.revision}
        named["against"] = known.against.model_copy(update=update)
    return edit.mask.of_model(known.model_copy(update=named))


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done, 100)


def _record(
    edit: Edit,
    sort: str,
    written: FolderNotes,
    *,
    checked: Verification,
    measured: Sequence[tuple[Task, Comparison]],
) -> dict[str, Any]:
    """What programs read of an exported folder, but for the digests of its files."""
    return {
        "format": sort,
        "eigenprune": {**stamp(edit), **_onto(written)},
        "readers": written.readers,
        "notes": list(written.notes),
        "checked": vars(checked),
        "tasks": [figures(task, comparison) for task, comparison in measured],
    }


def _onto(written: FolderNotes) -> dict[str, str | None]:
    """The model that a folder has to be loaded onto, where that is not the unpruned one."""
    if written.onto is None:
        return {}
    name, revision = base_of(written.onto)
    return {"onto_model": name, "onto_revision": revision}


def figures(task: Task, comparison: Comparison) -> dict[str, Any]:
    """A task's figures: `masked` and `baseline`, on the same examples."""
    return {
        "task": task.name,
        "task_digest": task.digest,
        "masked": comparison.masked.as_dict(),
        "baseline": comparison.baseline.as_dict(),
    }
