"""How a head scores keys for one query: its attention before softmax, as a bilinear form of its query and its keys.

With q and k what W_Q and W_K write (biases included) at a query's position and at a key's, every supported model scores

    score = cap(q M k + p),    M = scale . N_q R_q^T R_k N_k

where R turns by position (rotary embeddings), N are the scales that norms on queries and keys have on this prompt
(Qwen 3, Gemma 3, OLMo 2), p is ALiBi's part (BLOOM), and cap is Gemma 2's soft cap. M is read off the model's own
attention: its score is linear in the normed query and in the normed key, so its second derivative is M but for N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import tanh
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.models import View

_MASKED = -1e30  # scores below are those of keys that a query does not see
# Whose attention runs as a whole, so that its scores are not hooked.
_SCALED, _WHOLE = "OPTForCausalLM", ("GPTNeoForCausalLM", "GPTJForCausalLM")


@dataclass(frozen=True, eq=False)
class AttentionRun:
    """What one run over a prompt read and wrote in one block's attention, and the stream behind the last block.

    Attributes:
        call: arguments of the attention's own call.
        read: what Q, K and V read, by letter.
        pattern: attention.
        wrote: what O wrote, all heads together.
        final: the residual stream after the last block.
    """

    call: tuple[tuple[Any, ...], Mapping[str, Any]]
    read: Mapping[str, Float[Tensor, "position d_model"]]
    pattern: Float[Tensor, "head query key"]
    wrote: Float[Tensor, "position d_model"]
    final: Float[Tensor, "position d_model"]


@dataclass(frozen=True, eq=False)
class HeadScores:
    """How one head scores the keys that one query sees.

    Attributes:
        visible: positions of these keys, ascending.
        forms: M of each of them.
        position: p of each.
        cap: Gemma 2's soft cap, if there is one.
        own: the model's own scores of these keys, behind the cap.
        attention: what softmax makes of them.
    """

    visible: tuple[int, ...]
    forms: Float[Tensor, "key d_head d_head"]
    position: Float[Tensor, " key"]
    cap: float | None
    own: Float[Tensor, " key"]
    attention: Float[Tensor, " key"]

    def capped(self, score: float) -> float:
        """A score as the soft cap leaves it."""
        return score if self.cap is None else self.cap * tanh(score / self.cap)


def see(view: View, ids: list[int], layer: int) -> AttentionRun:
    """Run a prompt through the view as it is now, and keep what a head's scores and writing are made of."""
    kept: dict[str, Tensor] = {}
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    place, last = f"blocks.{layer}.attn", int(view.config.n_layers) - 1
    names = {kind: f"{place}.{kind}.hook_in" for kind in "qkv"} | {"pattern": f"{place}.hook_pattern"}
    names |= {"wrote": f"{place}.o.hook_out", "final": f"blocks.{last}.hook_out"}

    def keep(name: str) -> Callable[..., None]:
        def hook(value: Tensor, hook: Any) -> None:
            kept[name] = value[0].detach().clone()

        return hook

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, dict(kwargs)))

    handle = view.bridge.blocks[layer].attn.register_forward_pre_hook(note, with_kwargs=True)
    hooks = [(hook, keep(name)) for name, hook in names.items()]
    try:
        with torch.no_grad(), view.bridge.hooks(fwd_hooks=hooks):
            view.logits(torch.tensor([ids], device=view.device), keep=torch.tensor([len(ids) - 1], device=view.device))
    finally:
        handle.remove()
    read = {kind: kept[kind].flatten(1).double().cpu() for kind in "qkv"}
    return AttentionRun(calls[0], read, kept["pattern"], wrote=kept["wrote"].flatten(1), final=kept["final"].flatten(1))


def head_scores(view: View, seen: AttentionRun, layer: int, head: int, query: int) -> HeadScores:
    """How a head scores the keys of a query on a prompt, on the view as it is now."""
    attention = seen.pattern[head, query].double().cpu()
    with torch.no_grad():
        own = _Run(view, layer).scores(seen)[head, query]
    seen_keys = (own > _MASKED) & (attention.to(own) > 0) if _delegated(view) else own > _MASKED
    visible = seen_keys.nonzero()[:, 0].tolist()
    with _uncapped(view, layer) as cap, torch.enable_grad():
        run = _Run(view, layer)
        scores = run.scores(seen)[head, query]
        forms = _second_derivative(run, scores, visible, head=head, query=query)
    alibi = seen.call[1].get("alibi")
    position = torch.zeros(len(visible)).double() if alibi is None else alibi[head, 0].double().cpu()[visible]
    return HeadScores(
        tuple(visible), forms, position=position, cap=cap, own=own.double().cpu()[visible], attention=attention[visible]
    )


def _second_derivative(
    run: _Run, scores: Float[Tensor, " position"], visible: list[int], *, head: int, query: int
) -> Float[Tensor, "key d_head d_head"]:
    """M of the visible keys: the derivative of their scores by the normed query and by each normed key, times N."""
    shared = head * run.kv_heads // run.heads
    (slope,) = torch.autograd.grad(scores[visible].sum(), run.leaves["q"], create_graph=True)
    rows = []
    for one in run.by_head(slope)[query, head]:
        (found,) = torch.autograd.grad(one, run.leaves["k"], retain_graph=True)
        rows.append(run.by_head(found)[visible, shared])
    forms = torch.stack(rows, dim=1).detach().double().cpu()
    queries, keys = run.norm_scale("q"), run.norm_scale("k")
    if queries is not None:
        forms = forms * queries[query, head][None, :, None]
    return forms if keys is None else forms * keys[visible, shared][:, None, :]


class _Run:
    """The attention of one block run again, on leaves in place of its queries and keys, normed if it norms them."""

    def __init__(self, view: View, layer: int) -> None:
        self._view, self._name = view, f"blocks.{layer}.attn"
        self._attn = view.bridge.blocks[layer].attn
        self.heads, self._width = int(view.config.n_heads), int(view.config.d_head)
        self.kv_heads = int(getattr(view.config, "n_key_value_heads", None) or self.heads)
        self.leaves: dict[str, Tensor] = {}
        self._raw: dict[str, Tensor] = {}

    def scores(self, seen: AttentionRun) -> Float[Tensor, "head query key"]:
        """The scores before softmax; of attention that runs as a whole, from what it multiplies."""
        args, kwargs = seen.call
        kept: dict[str, Tensor] = {}
        hooks: list[tuple[str, Callable[..., Any]]] = [
            (f"{self._name}.{kind}.hook_out", self._leaf(kind, raw=True)) for kind in "qk"
        ]
        if self._normed:
            hooks += [(f"{self._name}.hook_{kind}_normed", self._leaf(kind, raw=False)) for kind in "qk"]
        hooks.append((f"{self._name}.hook_attn_scores", _noting(kept)))
        with self._view.bridge.hooks(fwd_hooks=hooks), _products(self._attn.original_component, kept):
            self._attn(*args, **kwargs)
        if self._view.model.architecture == _SCALED:
            q, k = (self.by_head(self.leaves[kind]).transpose(0, 1) for kind in "qk")
            return q @ k.transpose(1, 2) * float(self._attn.original_component.scaling)
        return (kept["products"] if _delegated(self._view) else kept["scores"])[0]

    def by_head(self, value: Tensor) -> Float[Tensor, "position head d_head"]:
        """Queries or keys as the hooks give them, by position and head."""
        heads_first = self._normed and value.ndim == 4
        return value[0].transpose(0, 1) if heads_first else value[0].reshape(value.shape[1], -1, self._width)

    def norm_scale(self, kind: str) -> Float[Tensor, "position head d_head"] | None:
        """What the norm on queries or keys multiplies each coordinate by, on this prompt; None without such a norm."""
        if not self._normed:
            return None
        norm = getattr(self._attn, f"{kind}_norm")
        raw, normed = self._raw[kind], self.leaves[kind].detach()
        with torch.no_grad():
            weight = norm(torch.ones_like(normed[0, 0] if normed.ndim == 3 else normed[0, 0, 0]))
        weight = weight.double().cpu().reshape(-1, self._width)
        x = raw[0].reshape(raw.shape[1], -1, self._width).double().cpu() * weight
        own = self.by_head(normed).double().cpu()
        every = (-1, -2) if normed.ndim == 3 else (-1,)  # OLMo 2 norms all heads together
        ratio = (x * own).sum(dim=every, keepdim=True) / x.square().sum(dim=every, keepdim=True).clamp_min(1e-300)
        scale: Tensor = (ratio * weight).expand_as(x)
        return scale

    @property
    def _normed(self) -> bool:
        return "q_norm" in getattr(self._attn, "submodules", {})

    def _leaf(self, kind: str, *, raw: bool) -> Callable[..., Tensor]:
        def hook(value: Tensor, hook: Any) -> Tensor:
            leaf = value.detach().requires_grad_()
            self.leaves[kind] = leaf
            if raw:
                self._raw[kind] = value.detach()
            return leaf

        return hook


def _noting(kept: dict[str, Tensor]) -> Callable[..., None]:
    def hook(value: Tensor, hook: Any) -> None:
        kept["scores"] = value

    return hook


def _delegated(view: View) -> bool:
    return view.model.architecture in (_SCALED, *_WHOLE)


@contextmanager
def _products(attention: Any, kept: dict[str, Tensor]) -> Iterator[None]:
    """Keep the scores of GPT-Neo's and GPT-J's attention, which multiplies queries and keys in a method of its own."""
    inner = getattr(attention, "_attn", None)
    if inner is None:
        yield
        return

    def outer(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **further: Any) -> Any:
        scale = getattr(attention, "scale_attn", 1.0)
        kept["products"] = query.float() @ key.float().transpose(-1, -2) / scale
        return inner(query, key, value, *rest, **further)

    attention._attn = outer
    try:
        yield
    finally:
        del attention._attn


@contextmanager
def _uncapped(view: View, layer: int) -> Iterator[float | None]:
    """Let the attention of one block on this view run without its soft cap, which is given."""
    attention = view.bridge.blocks[layer].attn.original_component
    cap = getattr(attention, "attn_logit_softcapping", None)
    if cap is None:
        yield None
        return
    attention.attn_logit_softcapping = None
    try:
        yield float(cap)
    finally:
        attention.attn_logit_softcapping = cap
