"""What each command prints with `--json`: these keys are stable. Losses are in nats per example, shares in [0, 1].

A number that is not defined, such as the standard error of one example, is null.
"""

from __future__ import annotations

from typing import Any, TypedDict


class ModelEntry(TypedDict):
    """A model with a short name; `available` says whether it is on this machine."""

    name: str
    summary: str
    available: bool
    folder: str


class ConvertedReport(TypedDict):
    """`models convert`: the new folder, and how many tensors it holds."""

    folder: str
    tensors: int


class FidelityReport(TypedDict):
    """`models check`: how far hooked copies are from plain transformers, in nats, by probe (null: that probe failed).

    `prefixes` says whether shared beginnings of prompts are read once, `layers` how many of `n_layers` blocks ran,
    `longest` the tokens of the longest prompt.
    """

    model: str
    model_digest: str
    architecture: str
    dtype: str
    tolerance: float
    differences: dict[str, float | None]
    prefixes: bool
    layers: int
    n_layers: int
    longest: int


class ModelsReport(TypedDict):
    """`models list`."""

    models: list[ModelEntry]


class CacheReport(TypedDict):
    """`cache info`, `clear` and `verify`; `removed` counts decompositions (clear) or damaged files of them (verify)."""

    folder: str
    entries: int
    bytes: int
    limit: int
    removed: int
    effects: int
    effects_bytes: int
    effects_limit: int
    effects_removed: int
    searches: int
    searches_bytes: int
    searches_limit: int
    searches_removed: int


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
    dtype: str
    matrices: list[MatrixEntry]


class ScoredValue(TypedDict):
    """One singular value: score = predicted loss change if it alone is removed, c = frozen mean m . u_i."""

    matrix: str
    index: int
    sigma: float
    score: float
    c: float


class Asked(TypedDict):
    """Which model was asked what, on which `n` examples."""

    model: str
    model_digest: str
    basis: str
    dtype: str
    task: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    split: str
    n: int
    seed: int


class Scoring(Asked):
    """What was scored, how and on what; `loss` is the unpruned model's on these `n` examples."""

    scorer: str
    mode: str
    loss: float


class ScoreEntry(ScoredValue):
    """A scored value: `stderr` of its score over examples, null without `--bootstrap`; whether the mask removes it."""

    stderr: float | None
    removed: bool


class ScoreReport(Scoring):
    """`score`: all values, the most harmful (lowest score) first, in `unit`.

    With `--mask` a score is for flipping the value from there, and `loss` is the masked model's.
    """

    unit: str
    bootstrap: int
    mask_digest: str | None
    values: list[ScoreEntry]


class EffectEntry(TypedDict):
    """One value: `exact` is the measured change of the mean loss by flipping it alone; negative = it helps."""

    matrix: str
    index: int
    exact: float
    stderr: float
    removed: bool


class EffectsReport(Asked):
    """`effects`: `loss` is the mean on the `n` examples without the changes, with `--mask` the masked model's."""

    mode: str
    mask_digest: str | None
    loss: float
    values: list[EffectEntry]


class PruneReport(Scoring):
    """`prune`: `values` were removed out of `scored`; `predicted_change` is the sum of their scores, times 1 - `gain`.

    With a `gain` above 0 they were scaled to it instead. `out` is the mask file, `eval_command` measures it on the test
    split.
    """

    strategy: str
    gain: float
    removed: int
    scored: int
    predicted_change: float | None
    mask_digest: str
    out: str
    eval_command: str
    values: list[ScoredValue]


class Share(TypedDict):
    """An accuracy with its 95 % Wilson interval."""

    n: int
    accuracy: float
    accuracy_interval: list[float]


class Headline(TypedDict):
    """One evaluation: accuracy with its 95 % Wilson interval, mean loss with its standard error, values removed.

    `accuracy` is by the `metric` (exact, choice, choice-mean); `exact` is exact match whatever the metric. `guessing`
    is the accuracy of guessing blindly among the choices, `majority` that of always giving the most frequent answer;
    both are null without choices.
    """

    n: int
    metric: str
    accuracy: float
    accuracy_interval: list[float]
    loss: float
    loss_stderr: float
    removed: int
    exact: Share
    guessing: float | None
    majority: float | None


class Figures(Headline):
    """One evaluation, with the accuracy of each rule of choosing (`sum`, `mean`); null without choices."""

    choice: dict[str, Share] | None


class Change(TypedDict):
    """A paired mean change against the unpruned model on the same examples."""

    value: float
    stderr: float


class CurveStop(Figures):
    """The `removed` lowest-scored values, all at once: measured, and what their scores add up to."""

    loss_change: Change
    predicted_change: float | None


class CurveReport(Scoring):
    """`curve`: `stops` were measured on `eval_split`, as `baseline` was; `n` and `loss` are of the scored examples.

    With a `gain` above 0 values are scaled to it instead of removed. `predicted_change` is null for scorers that do not
    predict nats.
    """

    gain: float
    scored: int
    eval_split: str
    baseline: Figures
    stops: list[CurveStop]


class Percentile(TypedDict):
    """Percent of the controls that the mask beats (higher accuracy, lower loss), ties counted half."""

    accuracy: float
    loss: float


class Controls(TypedDict):
    """Masks of the control that `strategy` names (`explorer.search.controls`); one entry per draw."""

    strategy: str
    draws: int
    seeds: list[int]
    accuracy: list[float]
    loss: list[float]
    percentile: Percentile


class Test(TypedDict):
    """McNemar's exact test: examples that went from wrong to right and from right to wrong, two-sided p."""

    repaired: int
    broken: int
    p: float


class Choice(TypedDict):
    """Accuracy of picking among an example's choices, with the mask and unpruned."""

    masked: Share
    baseline: Share
    test: Test


class Lead(TypedDict):
    """By how many nats the answer's log-probability leads the distractor's, and how often it is ahead."""

    n: int
    value: float
    stderr: float
    ahead: Share


class Leads(TypedDict):
    """The lead with the mask and unpruned, and the interval of its paired mean change."""

    masked: Lead
    baseline: Lead
    change_interval: list[float]


class NotFinite(TypedDict):
    """Losses that are not finite: of which model (`unpruned`, `with the mask`), how many, the first, where from."""

    model: str
    count: int
    first: int
    note: str


class DamageReport(TypedDict):
    """`mask damage`: per task `masked` and `baseline` figures, `loss_change`, `accuracy_test`, `choice_test`.

    `text` holds the perplexities and the `growth` of the perplexity (0.1 = up by 10 %) with its interval; null without
    a text.
    """

    model: str
    model_digest: str
    basis: str
    dtype: str
    seed: int
    mask_digest: str
    removed: int
    gain: float
    tasks: list[dict[str, Any]]
    text: dict[str, Any] | None


class SizeErrorEntry(TypedDict):
    """Predictions whose size lies in [low, high) nats; `high` is null for the open end."""

    low: float
    high: float | None
    n: int
    median_error: float
    sign_agreement: float


class TrustEntry(TypedDict):
    """How one scorer agrees with exact effects, for a kind and a group: stratified, extremes or all."""

    scorer: str
    kind: str
    group: str
    n: int
    spearman: float
    pearson: float
    sign_agreement: float
    reliable_range: float
    errors: list[SizeErrorEntry]


class JointPointEntry(TypedDict):
    """The lowest `count` values together, nats per example."""

    count: int
    predicted: float
    exact: float


class JointEntry(TypedDict):
    """Sums of the lowest scores against the exact effect of removing those values together."""

    scorer: str
    kind: str
    points: list[JointPointEntry]
    sign_until: int
    half_until: int


class StudyReport(TypedDict):
    """`study scorers`: `sampled` values were measured exactly on `n` examples."""

    model: str
    model_digest: str
    basis: str
    dtype: str
    task: str
    split: str
    n: int
    seed: int
    mode: str
    loss: float
    scorers: list[str]
    sampled: int
    trust: list[TrustEntry]
    joint: list[JointEntry]


def keys(report: type) -> str:
    """Help text that names the keys of a report."""
    return f"Keys of --json: {', '.join(report.__annotations__)}."
