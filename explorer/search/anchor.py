"""Plain text on which a searched model should go on as before: blocks of tokens that no measurement reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.core.errors import TaskError
from explorer.measure.perplexity import CODE, TEXT, TOKENS, read_text, tokens_of
from explorer.measure.tokens import front_tokens
from explorer.models import View

LENGTH = 512  # as far as the perplexity of `mask damage` looks back
TEXTS = (TEXT, CODE)
EACH = 3  # blocks of each text on which nothing is trained
HELD = EACH * len(TEXTS)
READ = 256  # tokens of a window, which a step reads
APART = 8  # every how many positions of a window predictions are compared at once
STRIDE = 3  # by how many positions the next pass over the windows is shifted; coprime to APART
TOP = 256  # tokens of the unpruned prediction that are compared one by one, the most probable ones


def anchor_blocks(view: View) -> tuple[Int[Tensor, "1 _"], ...]:
    """Blocks of LENGTH tokens, BOS included, of prose and of program text behind what `perplexity` measures by default.

    The last HELD of them are from all over both texts: neighbours of what is trained on would promise too much. Texts
    whose words the model's tokenizer does not know are left out.
    """
    trained, held = [], []
    for path in TEXTS:
        cut = _blocks(view, path)
        apart = max(1, len(cut) // EACH)
        places = set(range(apart // 2, len(cut), apart)[:EACH])
        trained.append([one for place, one in enumerate(cut) if place not in places])
        held += [cut[place] for place in sorted(places)]
    mixed = [one for some in zip_longest(*trained) for one in some if one is not None]
    return (*mixed, *held)


def _blocks(view: View, path: Path) -> list[Int[Tensor, "1 _"]]:
    try:
        ids = tokens_of(view.model.tokenizer, read_text(path), None)[TOKENS:]
    except TaskError:
        return []
    front = front_tokens(view.model)
    length = min(LENGTH, int(view.config.n_ctx)) - len(front)
    starts = range(0, len(ids) - length + 1, length)
    return [torch.tensor([[*front, *ids[start : start + length]]], device=view.device) for start in starts]


def windows(view: View, blocks: Sequence[Int[Tensor, "1 _"]]) -> tuple[Int[Tensor, "1 _"], ...]:
    """The blocks in parts of READ tokens, each with what stands in front of a text."""
    front = torch.tensor([front_tokens(view.model)], dtype=torch.int64, device=view.device)
    cut = []
    for block in blocks:
        first, *rest = torch.split(block, READ, dim=1)
        cut += [first, *(torch.cat([front, one], dim=1) for one in rest if 2 * one.shape[1] >= READ)]
    return tuple(cut)


def text_loss(view: View, blocks: Sequence[Int[Tensor, "1 position"]]) -> float:
    """Mean loss per predicted token of some blocks, in nats, of the view as it is now."""
    losses = []
    with view.lock, torch.inference_mode():
        for block in blocks:
            logits = view.logits(block)[0, :-1].float()
            losses.append(float(torch.nn.functional.cross_entropy(logits, block[0, 1:])))
    return sum(losses) / len(losses)


@dataclass(frozen=True, eq=False)
class Expected:
    """What the unpruned model predicts at every position of a window.

    Attributes:
        top: the most probable tokens there.
        logs: their log-probabilities.
        rest: the log-probability that all others have together.
    """

    top: Int[Tensor, "position top"]
    logs: Float[Tensor, "position top"]
    rest: Float[Tensor, " position"]

    def at(self, positions: Int[Tensor, " place"]) -> Expected:
        """At some positions only."""
        return Expected(self.top[positions], self.logs[positions], self.rest[positions])


@dataclass(eq=False)
class Anchor:
    """Divergence of a changed model from the unpruned one on plain text.

    KL(unpruned || changed) over the TOP most probable tokens and all others as one, at every APART-th position of a
    window: a lower bound of that over all tokens, and close to it, since what is grouped is rare. Every pass over the
    windows looks at other positions, so that what is trained learns no few of them by heart. What the unpruned model
    predicts is computed at a window's first use.

    Attributes:
        view: what runs; it may be in a narrower type than the model.
        windows: of text.
        unpruned: takes whatever is on the view off it.
    """

    view: View
    windows: Sequence[Int[Tensor, "1 position"]]
    unpruned: Callable[[], object]
    _expected: dict[int, Expected] = field(default_factory=dict)

    def prepare(self, step: int) -> bool:
        """Have the unpruned prediction for a step's divergence; whether the unpruned model was run for it."""
        number = step % len(self.windows)
        if number in self._expected:
            return False
        self.unpruned()
        with torch.no_grad():
            every = torch.arange(self.windows[number].shape[1], device=self.view.device)
            parts = [self._expect(number, some) for some in torch.split(every, READ // APART)]
            self._expected[number] = Expected(*(torch.cat(one) for one in zip(*parts, strict=True)))
        return True

    def divergence(self, step: int) -> Float[Tensor, ""]:
        """Of the view as it is now at a step of a training, nats per token."""
        turn, number = divmod(step, len(self.windows))
        first, length = (number + STRIDE * turn) % APART, self.windows[number].shape[1]
        positions = torch.arange(first % length, length, APART, device=self.view.device)
        expected = self._expected[number].at(positions)
        logs = self._predicted(number, positions).gather(1, expected.top)
        known = (expected.logs.exp() * (expected.logs - logs)).sum(dim=1)
        return (known + expected.rest.exp() * (expected.rest - _remaining(logs))).mean()

    def _expect(self, number: int, positions: Int[Tensor, " place"]) -> tuple[Tensor, Tensor, Tensor]:
        logs = self._predicted(number, positions)
        top = logs.topk(min(TOP, logs.shape[1]), dim=1)
        return top.indices, top.values, _remaining(top.values)

    def _predicted(self, number: int, positions: Int[Tensor, " place"]) -> Float[Tensor, "place vocabulary"]:
        logits = self.view.logits_at(self.windows[number], torch.zeros_like(positions), positions)
        return torch.log_softmax(logits.float(), dim=-1)


def _remaining(logs: Float[Tensor, "place top"]) -> Float[Tensor, " place"]:
    """Log of the probability that is left; that of a rounding error, at least, where nothing is."""
    left = 1.0 - logs.exp().sum(dim=1)
    return left.clamp_min(torch.finfo(logs.dtype).eps).log()
