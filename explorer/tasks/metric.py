"""What counts as a right answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Metric = Literal["exact", "choice", "choice-mean"]
AskedMetric = Literal["auto", "exact", "choice", "choice-mean"]
Rule = Literal["sum", "mean"]  # what is largest for the choice that is picked: the log-probability, or that per token

METRICS: tuple[AskedMetric, ...] = get_args(AskedMetric)
RULES: tuple[Rule, ...] = get_args(Rule)
METRIC_NAMES: Mapping[str, str] = {"exact": "exact match", "choice": "choice", "choice-mean": "choice per token"}
RULE_OF: Mapping[str, Rule] = {"choice": "sum", "choice-mean": "mean"}


def accuracy_name(metric: str, *, choices: bool) -> str:
    """`accuracy`, with what it counts where there are choices: `accuracy (choice)`."""
    return f"accuracy ({METRIC_NAMES[metric]})" if choices else "accuracy"
