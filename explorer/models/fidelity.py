"""Whether a hooked model computes what plain transformers computes; a model that does not is refused.

Every number of the explorer comes from a hooked copy of the model. So each load runs some short prompts of several
lengths (a sentence, or tokens drawn at random for a tokenizer that does not know its words):

1. the plain Hugging Face model, before anything is hooked, one prompt at a time, without a cache;
2. a view: (a) the shortest prompt alone, (b) all of them in one batch, filled up to the longest, (c) the longest in two
   parts, the second over the kept keys and values of the first.

At every position, log-probabilities (root mean square over the vocabulary: the extreme token of 50,000 has several
times the rounding of an answer) must agree within `TOLERANCES`: by the absolute figure, or by the relative one times
the largest log-probability in size where that is more (weights that are drawn at random can give hundreds of nats,
whose own rounding is above 1e-4). (a) and (b) decide whether the model is refused. Where (c) fails, prompts that share
a beginning run whole.

Lengths: 4 and 9 tokens, and some on both sides of every sliding window and rotary limit that is near enough. Models of
more than `WHOLE` weights in their blocks run with some of these only, so that a load takes no longer: the first, middle
and last one, and the first and last of each type of layer. `check_whole` runs all of them, on longer prompts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.core.errors import ModelError
from explorer.models.agreement import ALONE, BATCH, PARTS, Fidelity
from explorer.models.architectures import architecture
from explorer.models.caches import expanded, read_prefix
from explorer.models.hub import reason
from explorer.models.model import View
from explorer.models.rotary import limits, side

# Nats: absolute, and per nat of the largest log-probability. Norms and softmax of many families are in float32 always.
TOLERANCES: Mapping[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-4, 1e-6),
    torch.float32: (1e-4, 1e-6),
    torch.float16: (5e-2, 1e-3),
    torch.bfloat16: (4e-1, 1e-2),
}
TEXT = "When the sun sets, some birds sing in the old garden, and the air is cold and still until the morning comes."
LENGTHS = (4, 9)
NEAR, FAR = 64, 1024  # tokens: windows and limits up to here are crossed, by every load and by `check_whole`
WHOLE = 20_000_000


@dataclass(frozen=True, eq=False)
class PlainReference:
    """What the plain model says.

    Attributes:
        tokens: the longest prompt; the others are its beginnings.
        alone: log-probabilities of each prompt, by its length.
        layers: the blocks that ran.
    """

    tokens: Int[Tensor, " position"]
    alone: Mapping[int, Float[Tensor, "_ vocabulary"]]
    layers: tuple[int, ...]

    @cached_property
    def largest(self) -> float:
        """The largest log-probability in size, nats; not a number if one is not."""
        return float(torch.cat(list(self.alone.values())).abs().max())


def reference(name: str, model: Any, tokenizer: Any, *, whole: bool = False) -> PlainReference:
    """Run a Hugging Face model that nothing is hooked to.

    Args:
        name: the model's name, for messages.
        model: the model; left as it is.
        tokenizer: its tokenizer.
        whole: run all blocks, on longer prompts.

    Raises:
        ModelError: it fails, or its log-probabilities are not finite.
    """
    config, blocks = model.config, _blocks(name, model)
    lengths = _lengths(config, FAR if whole else NEAR)
    tokens = _tokens(tokenizer, model, lengths[-1]).to(model.device)
    layers = tuple(range(len(blocks))) if whole else _representatives(config, blocks)
    alone: dict[int, Tensor] = {}
    with torch.no_grad(), _only(blocks, layers):
        for _, group in groupby(lengths, lambda length: side(config, length)):
            same = list(group)
            try:
                logits = model(tokens[None, : same[-1]], use_cache=False).logits[0]
            except Exception as error:  # whatever a class raises on a configuration that it was not written for
                raise ModelError(f"{name} cannot be run by plain transformers ({reason(error)}).") from None
            # No position sees a later one, so shorter prompts are read off; a model where it does fails in `compare`.
            alone |= {length: _log_probs(logits[:length]) for length in same}
    found = PlainReference(tokens, alone, layers)
    if not math.isfinite(found.largest):
        raise ModelError(
            f"{name} gives log-probabilities that are not finite in {_name(model.dtype)}, though its weights are: "
            "load it in another type, such as float32, or check its config.json."
        )
    return found


def compare(view: View, expected: PlainReference) -> Fidelity:
    """Run a view as batches are run, and compare.

    Raises:
        ModelError: it fails, or differs by more than its type's tolerance.
    """
    model, config = view.model, view.bridge.original_model.config
    dtype = view.bridge.original_model.dtype
    absolute, relative = TOLERANCES[dtype]
    tolerance = max(absolute, relative * expected.largest)
    lengths = sorted(expected.alone)
    groups = [list(group) for _, group in groupby(lengths, lambda length: side(config, length))]
    differences = {}
    with torch.no_grad(), _only(view.bridge.blocks, expected.layers):
        runs = {ALONE: [lengths[:1]], BATCH: groups}
        for probe, cuts in runs.items():
            try:
                differences[probe] = max(_batch(view, expected, cut) for cut in cuts)
            except Exception as error:  # adapters fail in their own ways on configurations they were not written for
                _log(error)
                raise ModelError(
                    f"{model.source.name} is a {model.architecture} whose hooked copy fails on {probe} "
                    f"({reason(error)}): its numbers cannot be had."
                ) from None
            if not differences[probe] <= tolerance:
                raise ModelError(
                    f"{model.source.name} is a {model.architecture} with a configuration that the hooks get wrong: on "
                    f"{probe}, log-probabilities differ from plain transformers' by {differences[probe]:.3g} nats "
                    f"({tolerance:.1g} is allowed in {_name(dtype)}), so none of its numbers would be right."
                )
        differences[PARTS] = max(_parts(view, expected, group) for group in groups)
    return Fidelity(
        dtype=_name(dtype),
        tolerance=tolerance,
        differences=differences,
        prefixes=differences[PARTS] <= tolerance,
        layers=len(expected.layers),
        n_layers=len(view.bridge.blocks),
        longest=lengths[-1],
    )


def _batch(view: View, expected: PlainReference, lengths: Sequence[int]) -> float:
    """The largest difference on prompts of these lengths, run together."""
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.long, device=expected.tokens.device)
    for row, length in enumerate(lengths):
        tokens[row, :length] = expected.tokens[:length]
    rows = torch.tensor([row for row, length in enumerate(lengths) for _ in range(length)], device=tokens.device)
    positions = torch.cat([torch.arange(length, device=tokens.device) for length in lengths])
    found = _log_probs(view.logits_at(tokens, rows, positions))
    return _difference(found, torch.cat([expected.alone[length] for length in lengths]))


def _parts(view: View, expected: PlainReference, lengths: Sequence[int]) -> float:
    """The largest difference on the longest prompt, continued from the shortest; infinite if that fails."""
    cut, end = lengths[0], lengths[-1]
    if cut == end:
        return 0.0
    try:
        cache = read_prefix(view, expected.tokens[None, :cut])
        rest = expected.tokens[None, cut:end]
        positions = torch.arange(end - cut, device=rest.device)
        logits = view.logits_at(
            rest, torch.zeros_like(positions), positions, past_key_values=expanded(cache, 1), use_cache=True
        )
    except Exception as error:  # a cache of another kind than this family's
        _log(error)
        return math.inf
    return _difference(_log_probs(logits), expected.alone[end][cut:])


def _log_probs(logits: Tensor) -> Float[Tensor, "position vocabulary"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The difference at the position where it is largest; infinite where one is not a number."""
    largest = float((found - expected).square().mean(dim=-1).max().sqrt())
    return largest if math.isfinite(largest) else math.inf


def _tokens(tokenizer: Any, model: Any, count: int) -> Int[Tensor, " position"]:
    """The beginning of `TEXT`, repeated, or random tokens if the tokenizer knows only part of it."""
    rows = min(len(tokenizer), model.get_input_embeddings().weight.shape[0])
    ids = tokenizer(TEXT, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < LENGTHS[-1] or len(set(ids)) < len(ids) / 2 or max(ids) >= rows:
        return torch.randint(rows, (count,), generator=torch.Generator().manual_seed(0))
    return torch.tensor((ids * (1 + count // len(ids)))[:count])


def _lengths(config: Any, near: int) -> list[int]:
    """Lengths of the prompts, ascending: at least two on each side of a limit, and beyond each window."""
    longest = getattr(config, "n_positions", None) or getattr(config, "max_position_embeddings", None) or near
    windows = [getattr(config, name, None) for name in ("sliding_window", "window_size")]
    wanted = {*LENGTHS, *(window + 3 for window in windows if isinstance(window, int) and 0 < window <= near)}
    for limit in limits(config):
        if limit <= near:
            wanted |= {max(1, limit - 4), limit, limit + 2, limit + 6}
    return sorted({min(length, longest) for length in wanted})


def _blocks(name: str, model: Any) -> Any:
    return model.get_submodule(architecture(name, type(model).__name__).blocks)


def _representatives(config: Any, blocks: Any) -> tuple[int, ...]:
    """The blocks to run: all of a small model, else some of every type of layer."""
    count = len(blocks)
    if sum(weight.numel() for block in blocks for weight in block.parameters()) <= WHOLE:
        return tuple(range(count))
    types = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or [""] * count
    ends = {place for kind in set(types) for place in (types.index(kind), count - 1 - list(types)[::-1].index(kind))}
    return tuple(sorted({0, count // 2, count - 1, *ends}))


@contextmanager
def _only(blocks: Any, wanted: Collection[int]) -> Iterator[None]:
    """Let all blocks but the wanted ones, the first among these, hand on what they are given."""
    tuples: list[bool] = []

    def note(module: Any, args: Any, answer: Any) -> None:
        tuples.append(isinstance(answer, tuple))

    def idle(hidden: Tensor, *args: Any, **options: Any) -> Any:
        return (hidden, None) if tuples[-1] else hidden

    others = [vars(block) for place, block in enumerate(blocks) if place not in wanted]
    before: list[Callable[..., Any] | None] = [attributes.get("forward") for attributes in others]
    handle = blocks[0].register_forward_hook(note)
    try:
        for attributes in others:
            attributes["forward"] = idle
        yield
    finally:
        handle.remove()
        for attributes, forward in zip(others, before, strict=True):
            if forward is None:
                attributes.pop("forward", None)
            else:
                attributes["forward"] = forward


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _log(error: Exception) -> None:
    logging.getLogger(__name__).debug("a probe failed", exc_info=error)
