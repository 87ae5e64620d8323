"""What a model says after a prompt, token by token: `transformers.generate` for one prompt, on a view as it is now.

A token is the most probable one, or is drawn. What the checkpoint's own generation settings ask for (end tokens,
penalties) is the library's, so that a view with a mask on it says what `generate` says of the exported checkpoint, with
the same seed where tokens are drawn. Two views with the same distributions draw the same tokens.

Keys and values of what has been read are kept, as `explorer.measure.prefix` does, where the model allows it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.core.errors import SettingsError, TaskError
from explorer.measure.tokens import read_prompt_ids
from explorer.models import View
from explorer.tasks import AS_USUAL, Example, Framing

Ending = Literal["end token", "length", "context", "not finite", "stopped"]
_AT_ONCE = 64  # positions whose logits are held in memory


@dataclass(frozen=True)
class Decoding:
    """How tokens follow from a model's distributions.

    Attributes:
        new_tokens: how many are said at most.
        temperature: 0 takes the most probable token; above, tokens are drawn, the more evenly the higher it is.
        top_k: draw from the so many most probable tokens only; 0 from all.
        top_p: draw from the fewest tokens that have so much probability together; 1 from all.
        seed: of what is drawn; each prompt begins with it anew.

    Raises:
        SettingsError: a value out of its range.
    """

    new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        wanted = (
            (self.new_tokens >= 1, "new-tokens", self.new_tokens, "a whole number from 1"),
            (
                0 <= self.temperature < math.inf,
                "temperature",
                self.temperature,
                "0 for the most probable token, or more",
            ),
            (self.top_k >= 0, "top-k", self.top_k, "a whole number from 1, or 0 for all tokens"),
            (0 < self.top_p <= 1, "top-p", self.top_p, "a probability above 0, up to 1 for all tokens"),
            (0 <= self.seed < 1 << 63, "seed", self.seed, "a whole number from 0 to 2^63 - 1"),
        )
        for sound, name, value, expected in wanted:
            if not sound:
                raise SettingsError(f"{name} {value!r} cannot be used: give {expected}.")

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature > 0


GREEDY = Decoding()


class SaidToken(NamedTuple):
    """One token, and the model's own log-probability of it (nats), whatever it was drawn by."""

    id: int
    logprob: float


def prompt_ids(view: View, prompt: str | Example, framing: Framing = AS_USUAL) -> list[int]:
    """The token ids of a prompt in a framing, of which there is one at least and no more than the model reads.

    Raises:
        TaskError: the prompt is empty, longer than the model reads, or cannot be put into the framing.
    """
    ids = read_prompt_ids(view.model, prompt, framing)
    longest = int(view.config.n_ctx)
    text = prompt if isinstance(prompt, str) else prompt.prompt
    if not text.strip():
        raise TaskError("the prompt is empty: type some text.")
    if not 0 < len(ids) <= longest:
        raise TaskError(f"the prompt has {len(ids)} tokens: type some text of 1 to {longest} tokens for this model.")
    return ids


def stream(view: View, prompt: Sequence[int], decoding: Decoding = GREEDY) -> Iterator[SaidToken]:
    """The tokens that a view says after a prompt, each as soon as it is there; the view must not change meanwhile.

    It ends behind an end token, with the length that was asked for, where the model reads no more, and where its logits
    are not finite: see `ending`.
    """
    reader, said = _Reader(view), list(prompt)
    processors, ends = _processors(view, len(said), decoding), end_tokens(view)
    lots = torch.Generator(view.device).manual_seed(decoding.seed) if decoding.draws else None
    for _ in range(min(decoding.new_tokens, room(view, prompt))):
        logits = reader.logits(said, 1)[0]
        if bool(logits.isnan().any()):
            return
        token = _chosen(torch.tensor([said], device=logits.device), logits, processors=processors, lots=lots)
        yield SaidToken(token, float(logits.log_softmax(dim=-1)[token]))
        if token in ends:
            return
        said.append(token)


def logprobs(view: View, prompt: Sequence[int], said: Sequence[int]) -> list[float]:
    """The view's log-probability (nats) of each token of a text behind a prompt."""
    reader, found = _Reader(view), list[float]()
    for start in range(0, len(said), _AT_ONCE):
        wanted = said[start : start + _AT_ONCE]
        logits = reader.logits([*prompt, *said[: start + len(wanted) - 1]], len(wanted))
        chosen = logits.log_softmax(dim=-1).gather(1, torch.tensor(wanted, device=logits.device)[:, None])
        found += chosen[:, 0].tolist()
    return found


def ending(view: View, prompt: Sequence[int], said: Sequence[int], decoding: Decoding) -> Ending:
    """Why `stream` ended behind these tokens; `not finite` where nothing else says why."""
    if said and said[-1] in end_tokens(view):
        return "end token"
    if len(said) >= decoding.new_tokens:
        return "length"
    return "context" if len(said) >= room(view, prompt) else "not finite"


def room(view: View, prompt: Sequence[int]) -> int:
    """How many tokens a model can say behind a prompt: the last one is not read."""
    return int(view.config.n_ctx) - len(prompt) + 1


def end_tokens(view: View) -> frozenset[int]:
    """The tokens that end a text, by the checkpoint's generation settings."""
    named = view.bridge.original_model.generation_config.eos_token_id
    return frozenset(named) if isinstance(named, list | tuple) else frozenset(() if named is None else (named,))


class _Reader:
    """Logits behind a text that grows: what has been read is not read again, where the model allows it."""

    def __init__(self, view: View) -> None:
        from transformers import DynamicCache

        config = view.bridge.original_model.config
        self._view, self._read = view, 0
        self._cache = DynamicCache(config=config) if view.model.fidelity.prefixes else None

    def logits(self, ids: Sequence[int], count: int) -> Float[Tensor, "position vocabulary"]:
        """Next-token logits, float32 or wider, behind the last `count` of some tokens that begin as those before."""
        view, rest = self._view, ids[self._read :]
        with view.lock, torch.inference_mode():
            tokens = torch.tensor([rest], device=view.device)
            places = torch.arange(len(rest) - count, len(rest), device=view.device)
            kept = {} if self._cache is None else {"past_key_values": self._cache, "use_cache": True}
            logits = view.logits_at(tokens, torch.zeros_like(places), places, **kept)
            if self._cache is not None:
                self._read = len(ids)
            return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _processors(view: View, length: int, decoding: Decoding) -> Any:
    """What the library does to logits before a token is taken, by the checkpoint's settings and by these."""
    model = view.bridge.original_model
    config = copy.deepcopy(model.generation_config)
    config.update(do_sample=decoding.draws, guidance_scale=None)
    if decoding.draws:
        config.update(temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p)
    return model._get_logits_processor(config, input_ids_seq_length=length, device=view.device)


@torch.inference_mode()
def _chosen(said: Tensor, logits: Tensor, *, processors: Any, lots: torch.Generator | None) -> int:
    """The most probable token, or one that is drawn, as `transformers` does it: in float32."""
    scores = processors(said, logits[None].float())
    if lots is None:
        return int(scores.argmax())
    return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=lots))
