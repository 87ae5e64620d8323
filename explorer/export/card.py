"""The README of an exported folder: what it is, of which model, what it does, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from explorer.core.texts import percent
from explorer.export.base import FolderNotes, Format, base_of, hub_ancestor
from explorer.export.edit import Edit
from explorer.export.verify import Verification
from explorer.measure.evaluate import Comparison
from explorer.models import Model
from explorer.tasks import Task
from explorer.tasks.metric import METRIC_NAMES

if TYPE_CHECKING:
    from huggingface_hub.repocard_data import CardData

README = "README.md"
ORIGIN = "https://arxiv.org/abs/2404.03147"


def card(
    edit: Edit,
    form: Format,
    written: FolderNotes,
    *,
    measured: Sequence[tuple[Task, Comparison]],
    checked: Verification,
) -> str:
    """The README, in markdown with the header that model hubs read."""
    base, revision = base_of(edit.view.model.source)
    mask, model = edit.mask, edit.view.model
    values = f"{len(mask):,} singular value{'s' * (len(mask) != 1)}"
    frozen = (
        "Their mean effect over train tokens is kept as a bias." if mask.mode == "freeze" else "Nothing replaces them."
    )
    made = mask.provenance
    found = "" if made.task is None else f" They were scored on the task {_plain(made.task)}."
    what = "These are data on a model:" if form.tables else "This is not the original model:"
    lines = [
        *header(hub_ancestor(written.onto or model.source), form, written.digests),
        f"# {_plain(base.split('/')[-1])}, {values} {mask.state}",
        "",
        f"{what} {values} of its weight matrices are {mask.state} ([eigenpruning]({ORIGIN})). {frozen}{found}",
        "",
        "| | |",
        "|---|---|",
        f"| base model | {_plain(base)} |",
        f"| revision | {_plain(revision or 'none: not from the hub')} |",
        f"| digest of the base model | `{model.digest}` |",
        *_subtracted(model),
        f"| digest of the mask | `{mask.digest}` |",
        f"| readers | {written.readers} |",
        f"| checked with | {checked.client}: differs by at most {checked.difference:.1e} nats at {checked.positions:,} "
        f"answer tokens ({checked.limit:.0e} allowed, {checked.dtype}) |",
        "",
        *(f"{_plain(note)}\n" for note in written.notes),
        *_tables(form),
        *_figures(measured),
        "## Loading",
        "",
        "```python",
        form.loading(*base_of(written.onto or model.source)),
        "```",
        "",
        "The licence of the base model applies to what was made of its weights.",
        "",
    ]
    return "\n".join(lines)


def _subtracted(model: Model) -> list[str]:
    """Which model's weights were subtracted before values were removed, in the basis `delta`."""
    if model.against is None:
        return []
    name, revision = base_of(model.against.source)
    return [
        f"| values are of | the difference from {_plain(name)}{f' at {_plain(revision)}' if revision else ''} |",
        f"| digest of its weights | `{model.against.weights}` |",
    ]


def header(ancestor: str | None, form: Format, digests: Mapping[str, str]) -> list[str]:
    """What hubs read, as YAML; a license is not known here, and is the user's to add.

    Args:
        ancestor: id of the base model on the hub, if it is known.
        form: the format.
        digests: of a data set's tables. They stand in the header because `datasets` would else give the tables of an
            earlier folder of this name out of its cache.
    """
    from huggingface_hub import DatasetCardData, ModelCardData

    tags = ["eigenpruning", *(["lora"] if form.library == "peft" else [])]
    data: CardData
    if form.tables:
        files = [
            {"config_name": name, "data_files": f"{name}.parquet", "description": digests[name]} for name in form.tables
        ]
        data = DatasetCardData(base_model=ancestor, tags=tags, configs=files)
    else:
        data = ModelCardData(base_model=ancestor, library_name=form.library, tags=tags)
    return ["---", data.to_yaml(), "---", ""]


def _tables(form: Format) -> list[str]:
    """What the columns of a data set are."""
    lines = []
    for name, about in form.tables.items():
        lines += [f"## Table {name}", "", "| column | what it is |", "|---|---|"]
        lines += [*(f"| {column} | {text} |" for column, text in about.items()), ""]
    return lines


def _figures(measured: Sequence[tuple[Task, Comparison]]) -> list[str]:
    if not measured:
        return []
    lines = [
        "## Figures",
        "",
        "Test split, with 95 % intervals; loss in nats per example with its standard error.",
        "",
        "| task | | n | accuracy | interval | loss |",
        "|---|---|---|---|---|---|",
    ]
    for task, comparison in measured:
        for name, one in (("unpruned", comparison.baseline), ("pruned", comparison.masked)):
            low, high = one.accuracy_interval
            loss = one.mean_loss
            lines.append(
                f"| {_plain(task.name)} ({METRIC_NAMES[one.metric]}) | {name} | {one.n:,} | {percent(one.accuracy)} | "
                f"{percent(low)} to {percent(high)} | {loss.value:.3f} ± {loss.stderr:.3f} |"
            )
    return [*lines, ""]


def _plain(text: object) -> str:
    """Text of a file as one line that is no markup."""
    letters = (letter if letter.isprintable() else " " for letter in str(text))
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in letters)
