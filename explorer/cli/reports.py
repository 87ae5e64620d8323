"""What each command prints with `--json`: these keys are stable. Losses are in nats per example, shares in [0, 1].

A number that is not defined, such as the standard error of one example, is null.
"""

from __future__ import annotations

from typing import TypedDict


class ModelEntry(TypedDict):
    """A model with a short name; `available` says whether it is on this machine."""

    name: str
    summary: str
    available: bool
    folder: str


class ModelsReport(TypedDict):
    """`models list`."""

    models: list[ModelEntry]


class CacheReport(TypedDict):
    """`cache info`, `clear` and `verify`; `removed` counts the entries that the command took away."""

    folder: str
    entries: int
    bytes: int
    limit: int
    removed: int


class Sample(TypedDict):
    """One example of a task."""

    prompt: str
    answer: str


class TaskEntry(TypedDict):
    """A built-in task; `sizes` counts the examples of each split."""

    name: str
    description: str
    sizes: dict[str, int]
    sample: Sample


class TasksReport(TypedDict):
    """`tasks list`."""

    tasks: list[TaskEntry]


class MatrixEntry(TypedDict):
    """One matrix; `shape` is [d_in, d_out], `rank` the number of singular values."""

    matrix: str
    shape: list[int]
    rank: int


class MatricesReport(TypedDict):
    """`matrices`."""

    model: str
    model_digest: str
    basis: str
    matrices: list[MatrixEntry]


class Spectrum(MatrixEntry):
    """Singular values, descending, of one matrix, and what follows from them.

    `cumulative_energy[i]` is the share of the squared Frobenius norm in values 0 to i. `degenerate_blocks` lists the
    indices of neighbours whose relative gap is below 1e-2, null values left out.
    """

    singular_values: list[float]
    cumulative_energy: list[float]
    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    effective_rank: float
    null_count: int
    degenerate_blocks: list[list[int]]


class SpectraReport(TypedDict):
    """`spectra`."""

    model: str
    model_digest: str
    basis: str
    spectra: list[Spectrum]


class ScoredValue(TypedDict):
    """One singular value: score = predicted loss change if it alone is removed, c = frozen mean m . u_i."""

    matrix: str
    index: int
    sigma: float
    score: float
    c: float


class Scoring(TypedDict):
    """What was scored, how and on what; `loss` is the unpruned model's on these `n` examples."""

    model: str
    model_digest: str
    basis: str
    task: str
    split: str
    n: int
    seed: int
    scorer: str
    mode: str
    loss: float


class ScoreReport(Scoring):
    """`score`: all values, the most harmful (lowest score) first."""

    values: list[ScoredValue]


class PruneReport(Scoring):
    """`prune`: `values` were removed out of `scored`; `predicted_change` is the sum of their scores.

    `out` is the mask file, `eval_command` measures it on the test split.
    """

    strategy: str
    removed: int
    scored: int
    predicted_change: float | None
    mask_digest: str
    out: str
    eval_command: str
    values: list[ScoredValue]


class Figures(TypedDict):
    """One evaluation: accuracy with its 95 % Wilson interval, mean loss with its standard error, values removed."""

    n: int
    accuracy: float
    accuracy_interval: list[float]
    loss: float
    loss_stderr: float
    removed: int


class Change(TypedDict):
    """A paired mean change against the unpruned model on the same examples."""

    value: float
    stderr: float


class Percentile(TypedDict):
    """Percent of the controls that the mask beats (higher accuracy, lower loss), ties counted half."""

    accuracy: float
    loss: float


class Controls(TypedDict):
    """Masks of the same size drawn at random from all matrices of the mask's kinds; one entry per draw."""

    strategy: str
    draws: int
    seeds: list[int]
    accuracy: list[float]
    loss: list[float]
    percentile: Percentile


class EvalReport(Figures):
    """`eval`: `mode` and `mask_digest` are null without a mask, `controls` is null without `--controls`."""

    model: str
    model_digest: str
    basis: str
    task: str
    split: str
    seed: int
    mode: str | None
    mask_digest: str | None
    baseline: Figures
    loss_change: Change
    accuracy_change: Change
    repaired: int
    broken: int
    controls: Controls | None


def keys(report: type) -> str:
    """Help text that names the keys of a report."""
    return f"Keys of --json: {', '.join(report.__annotations__)}."
