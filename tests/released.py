"""The released preset written from its description: loops over plain transformers and numpy, nothing of the engine.

Layer norms are folded by hand, prompts are really padded on the left as far as the model reads, every token of padding
is counted, and every prediction is run with that padding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.core.keys import Kind, MatrixKey
from tests import plain
from tests.plain import Array, Encoded

BOS = 0


def fold(model: Any) -> Any:
    """A copy with norms folded into what reads them, and centred weights where norms centre."""
    folded = copy.deepcopy(model)
    with torch.no_grad():
        if folded.config.model_type == "gpt2":
            for block in folded.transformer.h:
                for norm, reader in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                    W = reader.weight.clone()
                    reader.bias += norm.bias @ W
                    W = torch.diag(norm.weight) @ W
                    reader.weight.copy_(W - W.mean(dim=0, keepdim=True))
                    norm.weight.fill_(1)
                    norm.bias.fill_(0)
                for writer in (block.attn.c_proj, block.mlp.c_proj):
                    writer.weight -= writer.weight.mean(dim=1, keepdim=True)
                    writer.bias -= writer.bias.mean()
        else:
            for block in folded.model.layers:
                attention, mlp = block.self_attn, block.mlp
                readers = (attention.q_proj, attention.k_proj, attention.v_proj)
                for norm, those in (
                    (block.input_layernorm, readers),
                    (block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
                ):
                    for reader in those:
                        reader.weight *= norm.weight[None, :]  # [d_out, d_in]
                    norm.weight.fill_(1)
    return folded


def blocks(model: Any) -> Any:
    return model.transformer.h if model.config.model_type == "gpt2" else model.model.layers


def read_at(model: Any, key: MatrixKey) -> tuple[Any, bool]:
    """The module at which the released code takes a matrix's input, and whether it is that module's output."""
    gpt2, block = model.config.model_type == "gpt2", blocks(model)[key.layer]
    attention = block.attn if gpt2 else block.self_attn
    if key.kind is Kind.O:
        return (attention.c_proj if gpt2 else attention.o_proj), False
    if key.kind is Kind.OUT:
        return (block.mlp.c_fc if gpt2 else block.mlp.gate_proj), True
    if key.kind in (Kind.IN, Kind.GATE):
        return (block.ln_2 if gpt2 else block.post_attention_layernorm), False
    return (block.ln_1 if gpt2 else block.input_layernorm), False


@dataclass(frozen=True)
class Prompts:
    """Prompts of one length; `real` is None if nothing was padded."""

    tokens: Tensor
    real: Tensor | None

    @classmethod
    def of(cls, encoded: Sequence[Encoded], length: int | None, pad: int = BOS) -> Prompts:
        """Padded on the left to `length`; not at all if it is None.

        The tokens at the beginning that are padding are masked; where padding and BOS are one token, all but the last.
        """
        if length is None:
            return cls(torch.tensor([one.prompt for one in encoded]), None)
        tokens = [[pad] * (length - len(one.prompt)) + one.prompt for one in encoded]
        real = []
        for row in tokens:
            leading = next(place for place, token in enumerate(row) if token != pad)
            masked = leading - 1 if pad == BOS and leading else leading
            real.append([0] * masked + [1] * (length - masked))
        return cls(torch.tensor(tokens), torch.tensor(real))

    def logits(self, model: Any) -> Tensor:
        """Logits at every position."""
        if self.real is None:
            return model(self.tokens).logits
        real = self.real

        with ExitStack() as stack:
            for block in blocks(model):
                writer, bias = _writer(block, model)
                stack.callback(writer.register_forward_pre_hook(_at_padding(real, bias), prepend=True).remove)
            if model.config.model_type == "gpt2":  # no position embedding at padding
                table = model.transformer.wpe
                stack.callback(table.register_forward_hook(lambda _, __, y: y * real[..., None]).remove)
            ids = (real.cumsum(dim=1) - 1).clamp(min=0)
            return model(self.tokens, attention_mask=real, position_ids=ids).logits


def _writer(block: Any, model: Any) -> tuple[Any, Tensor]:
    """O, and what it reads where nothing is attended to: the V biases, which the released code has folded into O's."""
    if model.config.model_type == "gpt2":
        return block.attn.c_proj, block.attn.c_attn.bias.detach()[2 * model.config.n_embd :]
    attention = block.self_attn
    if attention.v_proj.bias is None:
        return attention.o_proj, torch.zeros(attention.o_proj.in_features, dtype=attention.o_proj.weight.dtype)
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    heads = attention.v_proj.bias.detach().view(model.config.num_key_value_heads, model.config.head_dim)
    return attention.o_proj, torch.cat([head for head in heads for _ in range(groups)])


def _at_padding(real: Tensor, bias: Tensor) -> Any:
    def change(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0] * real[..., None] + bias * (1 - real)[..., None],)

    return change


@dataclass(frozen=True)
class Released:
    """What goes, in the order of scores, and what replaces it."""

    scores: dict[tuple[MatrixKey, int], float]
    removed: list[tuple[MatrixKey, int]]
    means: dict[MatrixKey, Array]  # what every position is frozen to, [position, d_in]: all rows are one but for O


def released(
    model: Any,
    keys: Sequence[MatrixKey],
    encoded: Sequence[Encoded],
    *,
    fraction: float,
    size: int,
    wanted: int = 0,
    length: int | None = None,
    pad: int = BOS,
) -> Released:
    """Score, cut and freeze, one matrix and one mini-batch at a time."""
    scores: dict[tuple[MatrixKey, int], float] = {}
    means: dict[MatrixKey, Array] = {}
    for key in keys:
        u, s, vh = plain.svd(model, key)
        largest = [-np.inf] * len(s)
        for start in range(0, len(encoded), size):
            chosen = encoded[start : start + size]
            x, g = _mini_batch(model, key, Prompts.of(chosen, length, pad), [one.answer[wanted] for one in chosen])
            for b in range(len(chosen)):
                swapped = x[b - 1] - x[b]  # the first example's is the last
                for position in range(x.shape[1]):
                    for i in range(len(s)):
                        effect = s[i] * float(swapped[position] @ u[:, i]) * float(vh[i] @ g[b, position])
                        largest[i] = max(largest[i], effect)
            assert np.isfinite(x).all()
            assert np.isfinite(g).all()
        means[key] = frozen(key, x)
        scores |= {(key, i): value for i, value in enumerate(largest)}
    order = sorted(scores, key=lambda place: scores[place])  # stable: ties stay in the order of `keys`
    removed = []
    for kind in dict.fromkeys(key.kind for key in keys):
        of_kind = [place for place in order if place[0].kind is kind]
        removed += order[: int(fraction * len(of_kind))]
    return Released(scores, list(dict.fromkeys(removed)), means)


def frozen(key: MatrixKey, x: Array) -> Array:
    """From the last mini-batch: the mean over its examples, which all kinds but O sum over positions."""
    means = x.mean(axis=0)
    return means if key.kind is Kind.O else np.tile(means.sum(axis=0), (len(means), 1))


def _mini_batch(model: Any, key: MatrixKey, prompts: Prompts, answers: list[int]) -> tuple[Array, Array]:
    """x and the gradient g of the mini-batch's mean loss, [example, position, part of the matrix]."""
    where, (module, of_output) = plain.site(model, key), read_at(model, key)
    caught: dict[str, Tensor] = {}

    def keep(_: Any, inputs: Any, output: Tensor) -> None:
        caught["x"] = (output if of_output else inputs[0]).detach()

    def at_output(_: Any, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        caught["y"] = output

    handles = [module.register_forward_hook(keep), where.module.register_forward_hook(at_output)]
    model.zero_grad()
    logits = prompts.logits(model)
    loss = -sum(logits[b, -1].log_softmax(dim=-1)[token] for b, token in enumerate(answers)) / len(answers)
    loss.backward()
    for handle in handles:
        handle.remove()
    assert caught["y"].grad is not None
    return caught["x"][..., where.rows].double().numpy(), caught["y"].grad[..., where.columns].double().numpy()


@contextmanager
def pruned(model: Any, found: Released) -> Iterator[Any]:
    """A copy without the removed part of its weights, which adds the frozen means at every position."""
    edited = copy.deepcopy(model)
    with ExitStack() as stack:
        for key, i in found.removed:
            u, s, vh = plain.svd(model, key)
            where = plain.site(edited, key)
            where.weight().sub_(torch.tensor(s[i] * np.outer(u[:, i], vh[i])))
            added = torch.tensor(s[i] * np.outer(found.means[key] @ u[:, i], vh[i]))  # [position, d_out]
            stack.enter_context(plain.on_output(where.module, _adds(added, where.columns)))
        yield edited


def _adds(added: Tensor, columns: slice) -> Any:
    def change(_: Tensor, y: Tensor) -> Tensor:
        moved = y.clone()
        for position in range(y.shape[1]):
            moved[:, position, columns] += added[min(position, len(added) - 1)]  # after the prompt: its last one
        return moved

    return change
