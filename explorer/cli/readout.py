"""`readout`: which tokens singular vectors read or write, beside what removing the values really does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.actions.choices import removal_mode
from explorer.cli import options
from explorer.cli.console import loss_text, notice, say, show_json, show_table, working
from explorer.cli.setup import Asked, identity, open_for, open_task, seed_or_default, wording
from explorer.cli.spectrum_reports import Effect, End, ReadoutReport, ReadToken, ReadValue
from explorer.core.keys import AnyKey, CircuitKey, MatrixKey, parse_key
from explorer.tasks import Task

if TYPE_CHECKING:
    from explorer.masks.mask import Mode
    from explorer.measure.readout import Readout, Token
    from explorer.models import View
    from explorer.spectra.cache import SvdCache

SPLIT = "train"


def readout(
    model: options.ModelName,
    matrix: Annotated[
        str, typer.Option("--matrix", help="Such as L0.K.H1, L0.OUT, or a head's product L0.QK.H1, L0.OV.H1.")
    ],
    task: options.TaskName,
    index: Annotated[list[int] | None, typer.Option("--index", min=0, help="Singular value; repeatable.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens shown at either end.")] = 8,
    mode: options.Mode = "freeze",
    shots: options.Shots = 0,
    template: options.Template = None,
    data: options.Data = None,
    bos: options.Bos = "auto",
    chat: options.Chat = False,
    system: options.System = None,
    metric: options.Metric = "auto",
    limit: options.Limit = 64,
    seed: options.Seed = None,
    basis: options.Basis = "raw",
    dtype: options.Dtype = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Show the tokens that singular vectors read or write most, and the exact effect of removing each value.

    Reads: embeddings through the layer's norm. Writes: logits behind the final norm. These are labels, not effects; the
    effect is measured on train examples. Values 0 to 3 if no --index is given. A head's product cannot be removed, so
    it has no effect.

    Example: `eigenprune readout --model bundled --matrix L0.K.H1 --task int-mult --index 0`
    """
    key, removal, seed = parse_key(matrix), removal_mode(mode), seed_or_default(seed)
    opened = open_task(task, seed, SPLIT, limit, Asked(shots, template, data, bos, chat, system, metric))
    view = open_for([opened], SPLIT, limit, model, dtype, device, basis)
    report = _report(view, key, opened, index or (), tokens, removal, limit)
    if json:
        return show_json(report)
    for value in report["values"]:
        _show(key, value, report)


def _report(
    view: View, key: AnyKey, task: Task, asked: Sequence[int], tokens: int, mode: Mode, limit: int | None
) -> ReadoutReport:
    from explorer.measure.readout import readouts
    from explorer.spectra.cache import default_cache
    from explorer.spectra.circuits import check_any
    from explorer.spectra.model_diff import decomposed

    check_any(view, key)
    svds = default_cache(notice)
    found = decomposed(view, svds, key)
    indices = sorted(set(asked)) or list(range(min(4, found.rank)))
    ends = readouts(view, key, found, indices, tokens)
    effects = {} if isinstance(key, CircuitKey) else _effects(view, svds, task, key, indices, mode, limit)
    return {
        **identity(view),
        "matrix": str(key),
        "task": task.name,
        **wording(task),
        "split": SPLIT,
        "mode": mode,
        "values": [
            _value(i, float(found.s[i]), effects.get(i), [one for one in ends if one.index == i]) for i in indices
        ],
    }


def _effects(
    view: View, svds: SvdCache, task: Task, key: MatrixKey, indices: Sequence[int], mode: Mode, limit: int | None
) -> Mapping[int, Effect]:
    from explorer.attribution.exact import exact_effects
    from explorer.measure.batches import batches

    with working("Measuring") as progress:
        cut = batches(view, task, task.split(SPLIT, limit))
        found = exact_effects(view, cut, svds, [(key, index) for index in indices], mode=mode, progress=progress)
    return {index: {"value": one.value, "stderr": one.stderr, "n": one.n} for (_, index), one in found.values.items()}


def _value(index: int, sigma: float, effect: Effect | None, ends: Sequence[Readout]) -> ReadValue:
    return {"index": index, "sigma": sigma, "exact": effect, "ends": [_end(one) for one in ends]}


def _end(one: Readout) -> End:
    def tokens(listed: Sequence[Token]) -> list[ReadToken]:
        return [{"id": token.id, "text": token.text, "value": token.value} for token in listed]

    return {
        "vector": one.vector,
        "kind": one.kind,
        "side": one.side,
        "plus": tokens(one.plus),
        "minus": tokens(one.minus),
    }


def _show(key: AnyKey, value: ReadValue, report: ReadoutReport) -> None:
    effect = value["exact"]
    told = (
        "a product cannot be removed"
        if effect is None
        else f"removed alone it changes the loss by {loss_text(effect['value'], effect['stderr'], signed=True)} "
        f"({report['mode']}, {effect['n']:,} {report['split']} examples of {report['task']})"
    )
    say(f"{key} value {value['index']}, singular value {value['sigma']:.6g}: {told}")
    for end in value["ends"]:
        rows = [
            (repr(plus["text"]), plus["value"], repr(minus["text"]), minus["value"])
            for plus, minus in zip(end["plus"], end["minus"], strict=True)
        ]
        title = f"{end['vector']} {end['side']} ({end['kind']})"
        show_table(title, ("most positive", "value", "most negative", "value"), rows)
