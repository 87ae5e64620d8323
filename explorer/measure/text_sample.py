"""A sample of plain text to measure every mask on while a user waits: as many short windows as fit a time budget.

1. Cut the text into windows of `WINDOW` tokens that do not overlap (a beginning-of-sequence token in front of each, if
   the tokenizer has one, counts as one of them).
2. Run the view as it is on few windows, keeping their residual streams, and double the sample within the time budget
   as `explorer.measure.sampling` does.
3. `TextSample.measure` runs only blocks that a mask can have changed, so it takes no longer than that.

Windows are short, so the perplexity is higher than `explorer.measure.perplexity` finds with its longer ones; what a
mask changes is paired, window by window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from explorer.core.files import digest
from explorer.core.progress import Progress
from explorer.measure.batches import Batch
from explorer.measure.metrics import Outcome
from explorer.measure.perplexity import LOGITS_AT_ONCE, Perplexity, tokens_of
from explorer.measure.residuals import Kept, keep, run_kept
from explorer.measure.sampling import most_within
from explorer.measure.tokens import check_rows, front_tokens
from explorer.models import View

WINDOW = 64
START, MOST = 4, 32  # windows
BUDGET_SECONDS = 1.5
MEMORY_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class TextSample:
    """Windows of a text with their kept residual streams.

    Attributes:
        kept: the residual streams of the view that `draw_text_sample` was given.
        baseline: that view's perplexity on the windows.
        seconds: what running all of its blocks on them took.
    """

    kept: Kept
    baseline: Perplexity
    seconds: float

    def measure(self, view: View) -> Perplexity:
        """Perplexity of the view, as it is now, on the windows; `explorer.measure.perplexity.growth` compares.

        Raises:
            SettingsError: a view of another model.
        """
        with view.lock, torch.inference_mode():
            return _perplexity(self.kept.batches, list(run_kept(view, self.kept)), self.baseline.text)


def draw_text_sample(
    view: View,
    text: str,
    *,
    window: int = WINDOW,
    most: int = MOST,
    seconds: float = BUDGET_SECONDS,
    progress: Progress | None = None,
) -> TextSample:
    """Draw the first windows of a text that take at most about `seconds` to measure; at least `START`, if there are.

    Args:
        view: the view, whose state now is the baseline.
        text: plain text.
        window: tokens that the model sees at a time; fewer if it reads fewer.
        most: bound on the windows.
        seconds: the time budget.
        progress: told (done, total) windows of the largest sample that may come.

    Raises:
        TaskError: a text too short to predict anything, or one that the tokenizer does not know the words of.
    """
    rows, read = _windows(view, text, min(window, int(view.config.n_ctx)), most=most)
    at_once = max(1, LOGITS_AT_ONCE // (int(view.config.d_vocab) * rows.shape[1]))
    _keep(view, rows[:1], at_once)  # warm up
    kept, took = most_within(
        seconds, lambda count: _keep(view, rows[:count], at_once), START, bound=len(rows), progress=progress
    )
    return TextSample(kept, _perplexity(kept.batches, kept.outcomes, read), seconds=took)


def _windows(view: View, text: str, window: int, most: int) -> tuple[Int[Tensor, "row position"], str]:
    """At most `most` whole windows of a text, one a row, or a shorter text's only one; and a digest of the tokens."""
    front = front_tokens(view.model)
    room = window - len(front)
    ids = tokens_of(view.model.tokenizer, text, most * room)
    check_rows(view.model, [*front, *ids], text)
    room = min(room, len(ids))
    pieces = [[*front, *ids[start : start + room]] for start in range(0, len(ids) - room + 1, room)]
    return torch.tensor(pieces, device=view.device), digest([repr(ids).encode()])


def _keep(view: View, rows: Int[Tensor, "row position"], at_once: int) -> Kept:
    cut = [_batch(rows[first : first + at_once], first) for first in range(0, len(rows), at_once)]
    return keep(view, cut, memory_bytes=MEMORY_BYTES)


def _batch(rows: Int[Tensor, "row position"], first: int) -> Batch:
    """Windows as examples all of whose tokens, but the first, are the answer."""
    count, length = len(rows), rows.shape[1] - 1
    positions = torch.arange(length, device=rows.device)
    return Batch(
        tokens=rows[:, :-1],
        real=torch.ones_like(rows[:, :-1], dtype=torch.bool),
        keep=positions,
        rows=torch.arange(count, device=rows.device).repeat_interleave(length),
        columns=positions.repeat(count),
        targets=rows[:, 1:].flatten(),
        places=torch.arange(first, first + count, device=rows.device),
    )


def _perplexity(batches: Sequence[Batch], outcomes: Sequence[Outcome], read: str) -> Perplexity:
    losses = torch.cat([one.loss for one in outcomes]).tolist()
    window = batches[0].tokens.shape[1] + 1
    return Perplexity(tuple(losses), (window - 1,) * len(losses), window, stride=window, text=read)
