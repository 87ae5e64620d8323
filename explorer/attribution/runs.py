"""Two ways to run many single changes together: on plain arithmetic where a model allows it, else with hooks.

Both give the losses of every example under each change alone. Plain arithmetic (`explorer.attribution.suffix`) computes
less and faster; hooks (`explorer.attribution.singles`) run every family as it is. A model takes the plain way if its
family is listed (`explorer.models.arithmetic`), it is loaded in float32 on one device, attention is a small part of its
work on these examples (long prompts with a shared beginning are read once by the other way), and the plain losses of
the kept state are those of the model itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.attribution.singles import Flip, changed_losses
from explorer.attribution.suffix import Suffix
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress
from explorer.measure.batches import Batch
from explorer.measure.forest import Forest, forests
from explorer.measure.residuals import MEMORY_BYTES, Kept, keep
from explorer.models import View
from explorer.models.arithmetic import Arithmetic, arithmetic

TOKENS = 1024  # run together on a CPU: more is no faster
DEVICE_BYTES = 2 << 30  # for what copies hold at a time on another device
AGREEMENT = 5e-4  # of the losses of both ways, relative where they are above 1 nat: far above float32's rounding
SMALL = 0.5  # of the matrix products' work: what attention may take


class Runs(ABC):
    """A way to run changes of single values.

    Attributes:
        copies: how many changes of one layer to run together.
    """

    copies: int

    @property
    @abstractmethod
    def before(self) -> tuple[float, ...]:
        """Losses of the examples in the kept state, in the order of `losses`, computed in the same way."""

    @abstractmethod
    def losses(self, changes: Sequence[Flip]) -> Float[Tensor, "change example"]:
        """Losses of the examples under each change alone, nats, on the CPU.

        Args:
            changes: of one layer, those of one matrix side by side.
        """

    @abstractmethod
    def work(self, key: MatrixKey) -> float:
        """Floating-point operations of matrix products for one value of a matrix."""


class HookedRuns(Runs):
    """Changes as hooks on the view, whatever its family."""

    def __init__(self, view: View, kept: Kept) -> None:
        self._view, self._kept = view, kept
        answers = max(len(batch.targets) for batch in kept.batches)
        self.copies = max(1, _together(view, logits=answers / kept.tokens) // kept.tokens)

    @cached_property
    def before(self) -> tuple[float, ...]:
        """See `Runs`."""
        return tuple(self._kept.losses.tolist())

    def losses(self, changes: Sequence[Flip]) -> Float[Tensor, "change example"]:
        """See `Runs`."""
        return changed_losses(self._view, self._kept, changes)

    def work(self, key: MatrixKey) -> float:
        """See `Runs`; whole blocks from that of the matrix on, of about as many weights as width and depth say."""
        config = self._view.config
        block = 4 * int(config.d_model) ** 2 + 3 * int(config.d_model) * int(config.d_mlp)
        answers = sum(len(batch.targets) for batch in self._kept.batches)
        tokens = sum(batch.rest.tokens.numel() for batch in self._kept.batches)
        blocks = (int(config.n_layers) - key.layer) * block
        return 2.0 * (tokens * blocks + answers * int(config.d_model) * int(config.d_vocab))


class PlainRuns(Runs):
    """Changes on plain arithmetic, with the examples as forests."""

    def __init__(self, model: Arithmetic, grown: Sequence[Forest], copies: int) -> None:
        self._suffixes = [Suffix(model, forest) for forest in grown]
        self.copies = copies

    @cached_property
    def before(self) -> tuple[float, ...]:
        """See `Runs`."""
        with torch.no_grad():
            return tuple(torch.cat([one.unchanged() for one in self._suffixes]).tolist())

    def losses(self, changes: Sequence[Flip]) -> Float[Tensor, "change example"]:
        """See `Runs`."""
        with torch.no_grad():
            return torch.cat([one.changed(changes) for one in self._suffixes], dim=1).cpu()

    def work(self, key: MatrixKey) -> float:
        """See `Runs`; attention itself is not counted."""
        return sum(one.work(key) for one in self._suffixes)


def kept_runs(
    view: View, batches: Sequence[Batch], sites: Collection[MatrixKey] = (), *, progress: Progress | None = None
) -> tuple[Kept, Runs]:
    """Keep the view's state on the examples, and the best way to run changes from it.

    Args:
        view: in the state to keep; it must stay as it is while changes run.
        batches: the examples.
        sites: stacked matrices whose mean input is wanted in what is kept.
        progress: told (done, total) batches.
    """
    with torch.no_grad():
        longest = max(batch.tokens.shape[1] for batch in batches)
        model = arithmetic(view, longest) if view.model.dtype == "float32" and len(view.model.devices) == 1 else None
        together = _together(view)
        grown = () if model is None else forests(batches, together)
        fits = model is not None and all(_small_attention(model, forest) for forest in grown)
        kept = keep(view, batches, inputs=sites, memory_bytes=0 if fits else MEMORY_BYTES, progress=progress)
        if model is not None and fits:
            runs = PlainRuns(model, grown, max(1, together // max(forest.nodes for forest in grown)))
            if _agree(runs, kept):
                return kept, runs
            kept = keep(view, batches, inputs=sites)
    return kept, HookedRuns(view, kept)


def _together(view: View, logits: float = 0.0) -> int:
    """How many tokens run at a time, if that share of them has logits of the whole vocabulary."""
    if view.device.type == "cpu":
        return TOKENS
    config = view.config
    widths = 12 * int(config.d_model) + 6 * int(config.d_mlp)
    wide = 2 * torch.float32.itemsize * int(config.d_vocab)
    size = next(view.bridge.original_model.parameters()).element_size()
    return max(TOKENS, int(DEVICE_BYTES / (widths * size + logits * wide)))


def _small_attention(model: Arithmetic, forest: Forest) -> bool:
    """Whether attention over whole paths is little beside the products with matrices at the nodes."""
    pairs = forest.paths.numel() * forest.paths.shape[1] * model.heads * model.d_head
    return 2 * pairs <= SMALL * forest.nodes * sum(linear.W.numel() for linear in model.blocks[0].matrices.values())


def _agree(runs: PlainRuns, kept: Kept) -> bool:
    """Whether the plain losses of the kept state are the model's own; not where one is not finite."""
    own = kept.losses.double().cpu()
    plain = torch.tensor(runs.before, dtype=torch.float64)
    return bool(((plain - own).abs() <= AGREEMENT * own.abs().clamp_min(1.0)).all())
