"""Per-example loss and correctness, and summaries that never come without n and a spread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.core.finite import all_finite
from explorer.measure.batches import Batch, answer_logits
from explorer.measure.prefix import all_logits
from explorer.models import View

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model did on what is measured on a batch: summed loss (nats), exact match, argmax tokens.

    Of its examples, or of its texts where it has readers (`Batch.measured`).
    """

    loss: Float[Tensor, " text"]
    correct: Bool[Tensor, " text"]
    predicted: Int[Tensor, " text_token"]


def run(view: View, batch: Batch) -> Outcome:
    """Run a view, as it is now, over a batch; see `outcome`."""
    return outcome(answer_logits(view, batch), batch)


def run_all(view: View, batches: Sequence[Batch]) -> Iterator[Outcome]:
    """`run` each batch in turn, reading what their prompts begin with in common once (`explorer.measure.prefix`)."""
    for batch, logits in zip(batches, all_logits(view, batches), strict=True):
        yield outcome(logits, batch)


def outcome(logits: Float[Tensor, "answer_token vocabulary"], batch: Batch) -> Outcome:
    """Teacher-forced loss summed over each answer's tokens, and exact match over all of them.

    An example whose loss is not finite is wrong, whatever its argmax. Losses are float32 or wider and can be
    differentiated.
    """
    measured = batch.measured
    loss = losses(logits, batch)
    predicted = _of_measured(logits.argmax(dim=-1), batch)
    wrong = (predicted != measured.targets).to(loss.dtype)
    return Outcome(
        loss=loss,
        correct=(loss.new_zeros(len(measured)).index_add(0, measured.rows, wrong) == 0) & loss.isfinite(),
        predicted=predicted,
    )


def losses(logits: Float[Tensor, "answer_token vocabulary"], batch: Batch) -> Float[Tensor, " text"]:
    """Only the losses of `outcome`."""
    measured = batch.measured
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    token_loss = torch.nn.functional.cross_entropy(_of_measured(wide, batch), measured.targets, reduction="none")
    return token_loss.new_zeros(len(measured)).index_add(0, measured.rows, token_loss)


def _of_measured(values: Tensor, batch: Batch) -> Tensor:
    """Values of a batch's answer tokens, for each token of what is measured."""
    return values if batch.readers is None else values[batch.readers.sources]


def pick(scores: Mapping[str, float]) -> str | None:
    """The text with the largest score (log-probability, nats).

    None where no text alone has the largest one, where that is not finite, and where any score is NaN: a tie is never
    decided by order.
    """
    largest = max(scores.values())
    leading = [text for text, score in scores.items() if score == largest]
    sound = math.isfinite(largest) and not any(map(math.isnan, scores.values()))
    return leading[0] if sound and len(leading) == 1 else None


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """A share of examples with n and its 95 % Wilson interval."""
    n, found = len(hits), sum(hits)
    return {"n": n, "accuracy": found / n, "accuracy_interval": list(wilson_interval(found, n))}


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error and n."""

    value: float
    stderr: float
    n: int


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error of the mean (sample standard deviation / sqrt(n); NaN for n = 1).

    Both are NaN if any value is not finite: such a mean says nothing, and is to be shown with how many there are.
    """
    n = len(values)
    if not all_finite(values):
        return Mean(math.nan, math.nan, n)
    try:
        centre = math.fsum(values) / n
        spread = math.fsum((value - centre) ** 2 for value in values)
    except OverflowError:  # finite, and too large to be added up or squared
        largest = max(map(abs, values))
        scaled = mean([value / largest for value in values])
        return Mean(scaled.value * largest, scaled.stderr * largest, n)
    return Mean(centre, math.sqrt(spread / (n - 1) / n) if n > 1 else math.nan, n)


def paired_difference(after: Sequence[float], before: Sequence[float]) -> Mean:
    """Mean of after - before on the same examples, with the standard error of the paired differences."""
    return mean([a - b for a, b in zip(after, before, strict=True)])


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); n must be at least 1, 0 and n give the bounds 0 and 1."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = successes / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    margin = z / scale * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (0.0 if successes == 0 else centre - margin), (1.0 if successes == n else centre + margin)
