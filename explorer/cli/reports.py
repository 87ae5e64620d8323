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


def keys(report: type) -> str:
    """Help text that names the keys of a report."""
    return f"Keys of --json: {', '.join(report.__annotations__)}."
