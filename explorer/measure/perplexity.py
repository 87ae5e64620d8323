"""Perplexity on plain text: what a mask costs where no task is asked.

The text is tokenised once, without special tokens, and read in windows of `window` tokens that start `stride` tokens
apart (a beginning-of-sequence token in front of each, if the tokenizer has one, counts as one of them). In the first
window every token is predicted that has something before it; in each later one only the tokens that no window had
before, so every token counts once and has at least `window - stride` tokens of context.

    perplexity = exp(sum of -log p(token | what the window shows before it) / number of tokens predicted)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.config import ASSETS
from explorer.core.errors import SettingsError, TaskError
from explorer.core.files import digest, ordinary
from explorer.core.finite import all_finite, exp, expm1
from explorer.core.progress import Progress
from explorer.measure.paired import bootstrap_interval
from explorer.measure.tokens import MAX_UNKNOWN, check_rows, front_tokens, unknown_id, unknown_sentence, unknown_share
from explorer.models import View

TEXT, CODE = (ASSETS / "text" / name for name in ("opticks.txt", "code.txt"))
WINDOW, TOKENS = 512, 4096
MAX_BYTES = 10_000_000
LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Perplexity:
    """Losses on a text, window by window.

    Attributes:
        nll: -log-probability summed over the tokens that each window predicts, nats.
        counts: how many these are.
        window, stride: in tokens.
        text: digest of the tokens that were read.
    """

    nll: tuple[float, ...]
    counts: tuple[int, ...]
    window: int
    stride: int
    text: str

    @property
    def tokens(self) -> int:
        """Number of predicted tokens."""
        return sum(self.counts)

    @cached_property
    def loss(self) -> float:
        """Mean loss, nats per token; not a number if that of a window is not finite."""
        return math.fsum(self.nll) / self.tokens if all_finite(self.nll) else math.nan

    @property
    def value(self) -> float:
        """The perplexity, exp(loss); infinity where that is beyond the largest number, not a number if the loss is."""
        return exp(self.loss)

    @cached_property
    def stderr(self) -> float:
        """Standard error of the loss, nats per token, with windows as the units; NaN for one window.

        Tokens of a window depend on each other, windows hardly: ratio estimator over windows (Cochran 1977, 2.11).
        """
        n = len(self.nll)
        if n < 2:
            return math.nan
        squares = math.fsum((nll - self.loss * count) ** 2 for nll, count in zip(self.nll, self.counts, strict=True))
        return math.sqrt(squares * n / (n - 1)) / self.tokens

    def as_dict(self) -> dict[str, Any]:
        """The figures for a report."""
        return {
            "perplexity": self.value,
            "loss": self.loss,
            "loss_stderr": self.stderr,
            "tokens": self.tokens,
            "windows": len(self.nll),
            "window": self.window,
            "stride": self.stride,
        }


def growth(after: Perplexity, before: Perplexity, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """How much the perplexity grew, as a factor minus 1 (0.1 = up by 10 %), with a paired 95 % bootstrap interval.

    Windows are drawn, each with its loss before and after.

    Raises:
        SettingsError: the two were not measured on the same tokens in the same windows.
    """
    if (after.text, after.window, after.stride) != (before.text, before.window, before.stride):
        raise SettingsError("the two perplexities are of different texts or windows: measure both the same way.")
    changes = [now - then for now, then in zip(after.nll, before.nll, strict=True)]
    low, high = bootstrap_interval(changes, after.counts, seed=seed)
    return expm1(after.loss - before.loss), (expm1(low), expm1(high))


def read_text(path: Path = TEXT) -> str:
    """A plain text; by default the end of Newton's Opticks (see assets/text/README.md).

    Raises:
        TaskError: a file that cannot be read, is not UTF-8, or is too large.
    """
    try:
        if ordinary(path).stat().st_size > MAX_BYTES:
            raise TaskError(f"{path} has more than {MAX_BYTES:,} bytes: give an excerpt of it.")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TaskError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): check the path.") from None


def perplexity(
    view: View,
    text: str,
    *,
    window: int | None = None,
    stride: int | None = None,
    tokens: int | None = TOKENS,
    logits_at_once: int = LOGITS_AT_ONCE,
    progress: Progress | None = None,
) -> Perplexity:
    """Measure the view, as it is now, on the first `tokens` tokens of a text (None: on all of it).

    `window` is how many tokens the model sees at a time, by default 512, or as many as it reads if these are fewer;
    `stride` how far apart windows start, by default half a window. Windows are read together as long as their logits
    are at most `logits_at_once` numbers; on a small device, lower it.

    Raises:
        SettingsError: a window or stride that the model or the window cannot hold.
        TaskError: a text too short to predict anything, or one that the tokenizer does not know the words of.
    """
    longest = int(view.config.n_ctx)
    window = min(WINDOW, longest) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    front = front_tokens(view.model)
    room = window - len(front)
    if not (2 <= window <= longest and 1 <= stride < window):
        raise SettingsError(
            f"a window of {window} tokens every {stride} cannot be used: this model reads 2 to {longest} tokens, and "
            "the stride must be at least 1 and smaller than the window."
        )
    ids = tokens_of(view.model.tokenizer, text, tokens)
    check_rows(view.model, [*front, *ids], text)
    most = logits_at_once // int(view.config.d_vocab)
    nll: list[float] = []
    counts: list[int] = []
    with view.lock, torch.inference_mode():
        for done, group in enumerate(groups := list(_groups(ids, front, room=room, stride=stride, most=most))):
            if progress is not None:
                progress(done, len(groups))
            nll += _losses(view, group).tolist()
            counts += [group.counted] * len(group.windows)
    if progress is not None:
        progress(len(groups), len(groups))
    return Perplexity(tuple(nll), tuple(counts), window, stride=stride, text=digest([repr(ids).encode()]))


@dataclass(frozen=True)
class _Group:
    """Windows of one length that count as many tokens, their last ones, each."""

    windows: list[list[int]]
    counted: int


def own_text(tokenizer: Any) -> str | None:
    """The text that comes with the explorer; None for a tokenizer that does not know its words."""
    text = read_text()
    try:
        tokens_of(tokenizer, text, None)
    except TaskError:
        return None
    return text


def tokens_of(tokenizer: Any, text: str, limit: int | None) -> list[int]:
    """The first `limit` tokens of a text (None: all); raises TaskError as `perplexity` does."""
    # Enough text for the limit: no tokenizer makes one token of more than 64 characters on average.
    piece = text if limit is None else text[: 64 * limit]
    ids: list[int] = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"][:limit]
    if len(ids) < 2:
        raise TaskError(f"the text has {len(ids)} tokens: give one of 2 or more.")
    unk = unknown_id(tokenizer)
    unknown = unknown_share(tokenizer, [piece]) if unk is None else ids.count(unk) / len(ids)
    if unknown > MAX_UNKNOWN:
        raise TaskError(f"{unknown_sentence(unknown, 'this text')}: give a text in its own words.")
    return ids


def _groups(ids: Sequence[int], front: list[int], *, room: int, stride: int, most: int) -> Iterator[_Group]:
    """The windows in order, neighbours of one shape together; they predict at most `most` tokens, or are alone."""
    group, done = _Group([], 0), 0
    for start in range(0, len(ids), stride):
        piece = [*front, *ids[start : start + room]]
        end = min(start + room, len(ids))
        counted = end - done if done or front else end - 1
        if group.windows and (
            counted != group.counted or len(piece) != len(group.windows[0]) or (len(group.windows) + 1) * counted > most
        ):
            yield group
            group = _Group([], counted)
        group = _Group([*group.windows, piece], counted)
        done = end
        if end == len(ids):
            break
    yield group


def _losses(view: View, group: _Group) -> Float[Tensor, " window"]:
    tokens = torch.tensor(group.windows, device=view.device)
    length = tokens.shape[1]
    keep = torch.arange(length - group.counted - 1, length - 1, device=view.device)
    logits = view.logits(tokens, keep)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    targets = tokens[:, keep + 1]
    token_loss = torch.nn.functional.cross_entropy(wide.flatten(0, 1), targets.flatten(), reduction="none")
    return token_loss.view(targets.shape).sum(dim=1)
