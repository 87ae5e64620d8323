"""What exact effects cost: masks by the layer they first touch, few-shot prompts, single values.

`measure(name)` gives rows in the style of the other benches; `python -m tests.bench.exact_effect NAME` prints them.
Times are CPU time of this process, so that others at work on the machine count as little as they can.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explorer.attribution.exact import Value, exact_effects
from explorer.attribution.runs import kept_runs
from explorer.attribution.singles import Flip
from explorer.core.errors import TaskError
from explorer.core.keys import Kind, MatrixKey
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask, Removed
from explorer.measure.batches import Batch, batches
from explorer.measure.metrics import run, run_all
from explorer.measure.perplexity import read_text, tokens_of
from explorer.measure.residuals import keep, run_kept
from explorer.models import View, load
from explorer.models.matrices import kinds, matrices, parts_of
from explorer.spectra.cache import SvdCache, default_cache
from explorer.tasks import Example, Task, load_task
from explorer.tasks.shots import with_shots
from tests.bench.subjects import plain_model, plain_pass
from tests.bench.timing import Row, figures, paired, seconds, verdict

VALUES_PER_LAYER, SINGLE_RUNS = 14, 2
MIDDLE, PRODUCTS = 48, 4  # values of the middle layer; products of each size
LONG = 96


def measure(
    name: str, *, runs: int = 5, examples: int = 32, shots: int = 3, dtype: str = "float32", device: str = "cpu"
) -> list[Row]:
    """All rows for one model, on INT-MULT."""
    model, task, svds = load(name, dtype=dtype, device=device), load_task("int-mult"), default_cache()
    view, plain = model.view(), plain_model(model)
    prepared = batches(view, task, task.split("train", examples))
    with torch.inference_mode():
        rows = [
            *mask_rows(view, svds, prepared, plain, runs),
            *long_rows(view, svds, plain, runs, examples // 2),
            prefix_row(view, with_shots(task, shots), examples, runs),
        ]
    exact = view if dtype == "float32" else load(name, dtype="float32", device=device).view()
    utilised = [used_row(exact, svds, batches(exact, task, task.split("train", examples)), runs)]
    return [*rows, *single_rows(view, svds, prepared, plain, runs), *utilised]


def used_row(view: View, svds: SvdCache, prepared: Sequence[Batch], runs: int) -> Row:
    """Values of all kinds of the middle layer, against their matrix products at the fastest square product's rate.

    A ratio of 2.5 is 40 % of that rate. Float32, as exact effects are unless a model is loaded in another type.
    """
    layer, device = int(view.config.n_layers) // 2, str(view.device)
    keys = matrices(view, layers=[layer])
    values = [(key, index) for key in keys for index in range(svds.get(view, key).rank)]
    values = values[:: max(1, len(values) // (MIDDLE if device == "cpu" else len(values)))]
    kept, ways = kept_runs(view, prepared, tuple({key.stacked: None for key in keys}))
    changes = [_flip(view, svds, value, kept.means[value[0].stacked]) for value in values]
    work = sum(ways.work(key) for key, _ in values)

    def ours() -> None:
        for start in range(0, len(changes), ways.copies):
            ways.losses(changes[start : start + ways.copies])

    ours()
    pairs = [(seconds(ours, device), work / peak(view)) for _ in range(runs)]
    found = figures(pairs, "s")
    median = found["ratio"]
    assert isinstance(median, float)
    about = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    note = (
        f"{100 / median:.0f} % of the peak (median), {work / found['ours_s'] / 1e9:,.0f} GFLOP/s, "  # type: ignore[operator]
        f"{1e3 * found['ours_s'] / len(values):,.3g} ms per value; {about}, {torch.get_num_threads()} threads, "  # type: ignore[operator]
        f"{view.model.dtype}"
    )
    what = f"exact effects of {len(values)} values of layer {layer}"
    return {"what": what, "against": "their products at peak", "target": 2.5, **found, "note": note}


def peak(view: View) -> float:
    """Operations per second of the fastest of some square products in float32 on the view's device, now."""
    device, best = str(view.device), 0.0
    for size in (1024, 2048) if device == "cpu" else (4096, 8192):
        a, b = torch.randn(2, size, size, device=device)
        best = max(best, *(2.0 * size**3 / seconds(lambda a=a, b=b: a @ b, device) for _ in range(PRODUCTS)))  # type: ignore[misc]
    return best


def long_rows(view: View, svds: SvdCache, plain: Any, runs: int, examples: int) -> list[Row]:
    """`mask_rows` on prompts of LONG tokens, where predicting the answer is a small part of the whole.

    None for a model whose tokenizer does not know the words of the text.
    """
    tokenizer = view.model.tokenizer
    try:
        ids = tokens_of(tokenizer, read_text(), examples * LONG)
    except TaskError:
        return []
    pieces = [tokenizer.decode(ids[start : start + LONG]) for start in range(0, len(ids), LONG)]
    asked = tuple(Example(prompt, " the") for prompt in pieces)
    task = Task("text", "", asked, asked[:1], asked[:1], seed=0)
    return mask_rows(view, svds, batches(view, task, asked), plain, runs, f", prompts of {LONG} tokens")


def mask_rows(
    view: View, svds: SvdCache, prepared: Sequence[Batch], plain: Any, runs: int, which: str = ""
) -> list[Row]:
    """A mask of one value, put onto the view and measured, against a plain forward over the same examples."""
    with torch.inference_mode(mode=False):
        kept = keep(view, prepared)
    n_layers, empty, rows = int(view.config.n_layers), empty_mask(view.model), []
    for layer in sorted({0, n_layers // 3, 2 * n_layers // 3, n_layers - 1}):
        mask = empty.with_removed([_removed(view, svds, (MatrixKey(layer, Kind.K, 0), 0))])

        def ours(mask: Mask = mask) -> None:
            apply(view, empty, svds)
            apply(view, mask, svds)
            list(run_kept(view, kept))

        found = paired(
            ours, lambda: [plain_pass(plain, batch, backward=False) for batch in prepared], runs, str(view.device)
        )
        target = 1.05 if layer == 0 else 1.1 * (n_layers - layer) / n_layers
        what = f"exact effect of a mask from layer {layer} of {n_layers}{which}"
        rows.append({"what": what, "against": "plain forward", "target": target, **found})
    apply(view, empty, svds)
    return rows


def prefix_row(view: View, task: Any, examples: int, runs: int) -> Row:
    """A few-shot split with what its prompts share read once, against all of every prompt."""
    prepared = batches(view, task, task.split("test", examples))
    found = paired(
        lambda: list(run_all(view, prepared)),
        lambda: [run(view, batch) for batch in prepared],
        runs,
        str(view.device),
    )
    return {"what": f"{task.shots}-shot task, prefix read once", "against": "whole prompts", "target": 0.5, **found}


def single_rows(view: View, svds: SvdCache, prepared: Sequence[Batch], plain: Any, runs: int) -> list[Row]:
    """Single values from layers 0, one half and the last, by value: together, one edit each, one plain forward each."""
    n_layers = int(view.config.n_layers)
    values = [value for layer in (0, n_layers // 2, n_layers - 1) for value in _values(view, svds, layer)]
    effects = exact_effects(view, prepared, svds, values)
    masks = [
        empty_mask(view.model).with_removed([_removed(view, svds, value, float(effects.c[value[0]][value[1]]))])
        for value in values[:: max(1, len(values) // 5)]
    ]

    def together() -> None:
        exact_effects(view, prepared, svds, values)

    def one_by_one() -> None:
        for mask in masks:
            apply(view, mask, svds)
            with torch.inference_mode():
                for batch in prepared:
                    run(view, batch)

    def forwards() -> None:
        for batch in prepared:
            plain_pass(plain, batch, backward=False)

    runs = min(runs, SINGLE_RUNS)
    counts = {"one edit and forward per value": (one_by_one, len(masks)), "plain forward per value": (forwards, 1)}
    rows = []
    for against, (reference, count) in counts.items():
        found = paired(together, reference, runs, str(view.device), count / len(values))
        rows.append({"what": f"exact effects of {len(values)} single values", "against": against, **found})
    apply(view, empty_mask(view.model), svds)
    return rows


def _values(view: View, svds: SvdCache, layer: int) -> list[Value]:
    """As many values of every kind, spread over the spectrum of one matrix each."""
    found = []
    per_kind = VALUES_PER_LAYER // len(kinds(view))
    for kind in kinds(view):
        key = matrices(view, [kind], [layer])[0]
        rank = svds.get(view, key).rank
        found += [(key, place * rank // per_kind) for place in range(per_kind)]
    return found


def _flip(view: View, svds: SvdCache, value: Value, mean: Tensor) -> Flip:
    key, index = value
    found = svds.get(view, key)
    u = found.u[:, index]
    c = float(mean[parts_of(view, key)[0]].double() @ u.double())
    return Flip(key, u, -found.s[index].to(found.vh.dtype) * found.vh[index], c)


def _removed(view: View, svds: SvdCache, value: Value, c: float = 0.0) -> Removed:
    key, index = value
    return Removed(matrix=str(key), index=index, sigma=float(svds.get(view, key).s[index]), c=c)


if __name__ == "__main__":
    for row in measure(sys.argv[1]):
        low, high = row["ratio_range"]
        print(f"{row['what']} / {row['against']}: {row['ratio']:.3f} ({low:.3f} to {high:.3f}) {verdict(row)}")
