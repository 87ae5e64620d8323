"""The README of an exported folder: what it is, of which model, what it does, and how it is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from explorer.core.texts import percent
from explorer.export.base import FolderNotes, Format, base_of, hub_ancestor
from explorer.export.edit import Edit
from explorer.export.verify import Verification
from explorer.measure.evaluate import Comparison
from explorer.models import Model
from explorer.tasks import Task
from explorer.tasks.metric import METRIC_NAMES

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
    lines = [
        *_header(hub_ancestor(written.onto or model.source), form),
        f"# {_plain(base.split('/')[-1])}, {values} {mask.state}",
        "",
        f"This is not the original model: {values} of its weight matrices are {mask.state} ([eigenpruning]({ORIGIN})). "
        f"{frozen}{found}",
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


def _header(ancestor: str | None, form: Format) -> list[str]:
    """What hubs read, as YAML; a license is not known here, and is the user's to add."""
    from huggingface_hub import ModelCardData

    tags = ["eigenpruning", *(["lora"] if form.library == "peft" else [])]
    data = ModelCardData(base_model=ancestor, library_name=form.library, tags=tags)
    return ["---", data.to_yaml(), "---", ""]


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
