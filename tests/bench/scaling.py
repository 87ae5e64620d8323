"""How costs grow with the model and with the split: measured exponents beside predicted ones.

Random Llama models of growing width and depth, written to a temporary folder and removed again. For each: the cold SVD
of all matrices; then, for three split sizes, all scores and plain forward + backward in turn; then the peak memory of
both, each in a process of its own (Python and libraries are part of it, so small models show no slope there). Besides,
the SVD of single matrices of one form and growing narrow side.

Predicted: SVD cubic in the narrow side at a fixed form; scores linear in the tokens (with a fixed cost: one contraction
per matrix, whatever the split), and linear in weights at a fixed number of tokens, as the passes are.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from plotly import graph_objects as go
from plotly.subplots import make_subplots
from rich.console import Console

from explorer.core.files import write_json, write_text
from explorer.spectra.svd import decompose
from tests.bench.rows import memory_row
from tests.bench.subjects import Subject, plain_pass
from tests.bench.timing import figures, line, seconds, slope
from tests.bench.words import Size, save_random_llama

SIZES = (Size(256, 4), Size(512, 8), Size(1024, 12), Size(2048, 18))  # 11 million to 0.9 billion weights
QUICK = (Size(128, 2), Size(256, 2))
COMMON = 32  # examples of 16 tokens that every model runs, on which models are compared
SPLITS, SPLITS_OF_LARGE = (COMMON, 64, 128), (8, 16, COMMON)
LARGE = 10**8
NARROW = (128, 256, 512, 1024, 2048)
Points = list[dict[str, float]]
Slope = dict[str, object]


def report(folder: Path, about: dict[str, object], device: str, *, quick: bool) -> None:
    """Measure, print the slopes, and write scaling.json and scaling.html (which needs no other file or network)."""
    narrow = svd_by_side(NARROW[:3] if quick else NARROW, device)
    sizes: Points = []
    for size in QUICK if quick else SIZES:
        sizes += model_points(size, device)
        measured = {**about, "models": sizes, "svd_by_narrow_side": narrow, "slopes": slopes(sizes, narrow)}
        write_json(folder / "scaling.json", measured)  # as it goes: the last size takes longest
    found = slopes(sizes, narrow)
    for one in found:
        Console(width=150).print(
            f"{one['what']}: exponent {one['measured']:.2f} +- {one['stderr']:.2f}, predicted {one['predicted']:.2f}"
        )
    page = figure(sizes, narrow, f"{about['device']}, {about['clock']}").to_html(include_plotlyjs=True)
    write_text(folder / "scaling.html", page)


def svd_by_side(sides: Sequence[int], device: str) -> Points:
    """Time of one decomposition of a matrix of 2.75 n x n, ours and LAPACK's in float32."""
    points = []
    for n in sides:
        W = torch.randn(n * 11 // 4, n, generator=torch.Generator().manual_seed(n)).to(device)
        runs = max(1, min(9, 600 // n))
        decompose(W)
        pairs = [
            (
                seconds(lambda W=W: decompose(W), device),
                seconds(lambda W=W: torch.linalg.svd(W, full_matrices=False), device),
            )
            for _ in range(runs)
        ]
        found = figures(pairs, "s")
        points.append({"narrow": float(n), "ours_s": found["ours_s"], "reference_s": found["reference_s"]})
    return points


def model_points(size: Size, device: str) -> Points:
    """One point per split size for one model."""
    with tempfile.TemporaryDirectory() as name:
        model, folder = save_random_llama(size, Path(name) / "model"), Path(name) / "svd"
        points = timed_points(Subject(str(model), COMMON, device, folder))
        gc.collect()
        memory = memory_row(Subject(str(model), COMMON, device, folder))
    shared = {"width": size.width, "layers": size.layers}
    memory_mb = {"ours_mb": memory["ours_mb"], "reference_mb": memory["reference_mb"]}
    return [{**shared, **point, **memory_mb} for point in points]


def timed_points(subject: Subject) -> Points:
    """Weights, seconds of the cold SVD of all matrices, and for every split size those of scores and passes."""
    weights = float(subject.model.parameters_count)
    keys, view = subject.keys, subject.view  # loads the model before the clock starts
    svd = seconds(lambda: subject.svds.get_many(view, keys), subject.device)
    splits = SPLITS if weights < LARGE else SPLITS_OF_LARGE
    return [{"weights": weights, "svd_s": svd, **split_point(subject, count)} for count in splits]


def split_point(subject: Subject, examples: int) -> dict[str, float]:
    """Time of all scores and of plain forward + backward over so many examples."""
    some = Subject(subject.name, examples, subject.device, subject.folder)
    some.__dict__.update(model=subject.model, view=subject.view, svds=subject.svds)
    weights = subject.model.bridge.original_model

    def plain() -> None:
        weights.requires_grad_(True)
        for batch in some.batches:
            plain_pass(weights, batch, backward=True)
        weights.zero_grad(set_to_none=True)
        weights.requires_grad_(False)

    runs = 3 if subject.model.parameters_count < LARGE else 1
    found = figures([(seconds(some.score, some.device), seconds(plain, some.device)) for _ in range(runs)], "s")
    tokens = sum(int(batch.real.sum()) for batch in some.batches)
    return {
        "examples": float(examples),
        "tokens": float(tokens),
        "ours_s": found["ours_s"],
        "reference_s": found["reference_s"],
    }


def slopes(sizes: Points, narrow: Points) -> list[Slope]:
    """Exponents of the measured costs by least squares on logarithms, beside the predicted ones."""
    sides = [point["narrow"] for point in narrow]
    found = [
        _slope("SVD by narrow side", sides, [point["ours_s"] for point in narrow], 3.0),
        _slope("float32 LAPACK by narrow side", sides, [point["reference_s"] for point in narrow], 3.0),
        _slope("SVD by narrow side, the two largest", sides[-2:], [p["ours_s"] for p in narrow[-2:]], 3.0),
    ]
    table = pd.DataFrame(sizes)
    for width, part in table.groupby("width"):
        tokens, ours = part["tokens"].tolist(), part["ours_s"].tolist()
        found.append(_slope(f"plain passes by tokens, width {width}", tokens, part["reference_s"].tolist(), 1.0))
        found.append(_slope(f"scores by tokens, width {width}", tokens, ours, 1.0))
        per_token, fixed = line(tokens, ours)
        found[-1] |= {"seconds_per_token": per_token, "fixed_seconds": fixed}
    alike = table[table["examples"] == COMMON]
    if len(alike) > 1:
        weights = alike["weights"].tolist()
        for name, what in (("ours_s", "scores"), ("reference_s", "plain passes")):
            found.append(_slope(f"{what} by weights", weights, alike[name].tolist(), 1.0))
        for name, what in (("ours_mb", "scores"), ("reference_mb", "plain passes")):
            found.append(_slope(f"peak memory of {what} by weights", weights, alike[name].tolist(), 1.0))
    return found


def _slope(what: str, x: Sequence[float], y: Sequence[float], predicted: float) -> Slope:
    measured, error = slope(x, y)
    return {"what": what, "measured": measured, "stderr": error, "predicted": predicted}


def figure(sizes: Points, narrow: Points, about: str) -> go.Figure:
    """Costs on logarithmic axes: points measured, dashed lines of the predicted slope through the last point."""
    titles = ("SVD of one matrix", "Scores of all matrices, by tokens", "Peak memory, by weights")
    drawn = make_subplots(rows=1, cols=3, subplot_titles=titles)
    table, sides = pd.DataFrame(sizes), pd.DataFrame(narrow)
    _curve(drawn, 1, sides["narrow"], sides["ours_s"], "SVD", 3.0)
    _curve(drawn, 1, sides["narrow"], sides["reference_s"], "float32 LAPACK")
    for width, part in table.groupby("width"):
        _curve(drawn, 2, part["tokens"], part["ours_s"], f"scores, width {width}", 1.0)
        _curve(drawn, 2, part["tokens"], part["reference_s"], f"forward + backward, width {width}")
    alike = table[table["examples"] == COMMON]
    _curve(drawn, 3, alike["weights"], alike["ours_mb"], "memory of scores", 1.0)
    _curve(drawn, 3, alike["weights"], alike["reference_mb"], "memory of forward + backward")
    for column, (x, y) in enumerate((("narrow side", "seconds"), ("tokens", "seconds"), ("weights", "MB")), start=1):
        drawn.update_xaxes(title=x, type="log", row=1, col=column)
        drawn.update_yaxes(title=y, type="log", row=1, col=column)
    return drawn.update_layout(title=f"Cost as the work grows ({about})", template="plotly_white")


def _curve(
    drawn: go.Figure, column: int, x: pd.Series[float], y: pd.Series[float], name: str, predicted: float | None = None
) -> None:
    drawn.add_scatter(x=x, y=y, name=name, mode="lines+markers", row=1, col=column)
    if predicted is not None:
        expected = y.iloc[-1] * (x / x.iloc[-1]) ** predicted
        style = {"dash": "dash", "color": "grey"}
        drawn.add_scatter(
            x=x, y=expected, name=f"{name}: slope {predicted:g}", line=style, mode="lines", row=1, col=column
        )
