"""Numbers as the pages write them, with unit, n and spread; text from elsewhere as it is."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from explorer.core.texts import percent as percent
from explorer.tasks.metric import METRIC_NAMES
from explorer.ui.streamlit_internals.markdown import literal as literal

if TYPE_CHECKING:
    from explorer.masks.mask import Mask
    from explorer.measure.evaluate import Evaluation
    from explorer.measure.metrics import Mean

GROWN_MUCH = 9.0  # from here on a growth is told as a factor
NOT_FINITE = "not finite"


def one_line(text: str) -> str:
    """`text` in one line, with a sign for each line break."""
    return re.sub(r"\r?\n", " ⏎ ", text)


def accuracy(evaluation: Evaluation, total: int | None = None) -> str:
    """`12.5 % [6.0, 20.0], n = 80`, or `n = 80 of 400` where the split has more."""
    return f"{percent(evaluation.accuracy)} {interval(evaluation, total)}"


def interval(evaluation: Evaluation, total: int | None = None) -> str:
    """`[6.0, 20.0], n = 80`: the accuracy's interval in percent, and how many of how many examples were measured."""
    low, high = evaluation.accuracy_interval
    of = f" of {total:,}" if total is not None and evaluation.n < total else ""
    return f"[{100 * low:.1f}, {100 * high:.1f}], n = {evaluation.n:,}{of}"


def said(evaluation: Evaluation, place: int) -> str:
    """What counts as the model's answer to an example, or that several choices were equally probable."""
    answer = evaluation.says(place)
    return answer if answer or evaluation.metric == "exact" else "(several equally probable)"


def accuracy_title(evaluation: Evaluation) -> str:
    """`Accuracy`, with what it counts where the examples have choices: `Accuracy (choice)`."""
    return evaluation.accuracy_name.capitalize()


def beside(evaluation: Evaluation) -> str:
    """What stands beside the accuracy of examples with choices: `exact match 0.0 %, guessing 33.3 %`; else empty."""
    if not evaluation.chosen_among:
        return ""
    shown = "choice" if evaluation.metric == "exact" else "exact"
    others = [f"{METRIC_NAMES[shown]} {percent(evaluation.shares[shown])}"] if shown in evaluation.shares else []
    return ", ".join([*others, f"guessing {percent(evaluation.guessing or 0.0)}"])


def points(change: Mean) -> str:
    """`+3.8 points`."""
    return f"{100 * change.value:+.1f} points"


def growth(value: float) -> str:
    """`+3.8 %` for 0.038, `× 12.5` from ten times on; `not finite` for what is no number."""
    if not math.isfinite(value):
        return NOT_FINITE
    return f"{100 * value:+.1f} %" if value < GROWN_MUCH else f"× {1 + value:,.3g}"


def nats(value: float) -> str:
    """`-0.123 nats`, with digits that suit the size; `not finite` for what is no number."""
    return NOT_FINITE if not math.isfinite(value) else f"{value:+.{digits(value)}f} nats"


def loss(evaluation: Evaluation) -> str:
    """`5.548 nats`, the mean loss; how many examples have none where that is no number."""
    bad = len(evaluation.not_finite)
    return f"{NOT_FINITE} ({bad:,} of {evaluation.n:,})" if bad else f"{evaluation.mean_loss.value:.3f} nats"


def spread(mean: Mean, *, signed: bool = False) -> str:
    """`5.548 ± 0.297`: mean and standard error; the mean alone where n = 1 gives no error."""
    if not math.isfinite(mean.value):
        return NOT_FINITE
    value = f"{mean.value:{'+' if signed else ''}.3f}"
    return f"{value} ± {mean.stderr:.3f}" if math.isfinite(mean.stderr) else value


def count(n: int, one: str, many: str | None = None) -> str:
    """`1 value`, `2,000 values`; `many` where the plural has more than an s."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def chosen(mask: Mask) -> str:
    """`4 removed values`, or `1 scaled value`."""
    return count(len(mask), f"{past(mask)} value")


def past(mask: Mask) -> str:
    """What its values are, in a word: `removed`, or `scaled` where it has a gain; `Mask.state` says how far."""
    return "scaled" if mask.gain else "removed"


def verb(mask: Mask) -> str:
    """What choosing a value does with it: `Remove` or `Scale`."""
    return "Scale" if mask.gain else "Remove"


def digits(value: float) -> int:
    """Decimals that show three significant digits of a value below 1, at most 6."""
    size = abs(value)
    return 3 if size >= 1 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
