"""Independent references: the same quantities from plain transformers and numpy, slowly, without the engine.

Nothing here imports the registry, the batches, the metrics or the decompositions that it is compared with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from explorer.core.keys import Kind, MatrixKey
from explorer.tasks import Example
from tests.tiny import IDS

Array = NDArray[np.float64]
_LLAMA = {
    Kind.Q: "self_attn.q_proj",
    Kind.K: "self_attn.k_proj",
    Kind.V: "self_attn.v_proj",
    Kind.O: "self_attn.o_proj",
    Kind.IN: "mlp.up_proj",
    Kind.GATE: "mlp.gate_proj",
    Kind.OUT: "mlp.down_proj",
}
_GPT2 = {Kind.O: "attn.c_proj", Kind.IN: "mlp.c_fc", Kind.OUT: "mlp.c_proj"}


def load_plain(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model as plain transformers loads it; in float64 its norms are float64 too, which Llama's own are not."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    if dtype is torch.float64:
        for module in model.modules():
            if isinstance(module, LlamaRMSNorm):
                module.forward = partial(_rms_norm, module)
    return model.eval()


def _rms_norm(module: Any, x: Tensor) -> Tensor:
    return module.weight * x / (x.square().mean(dim=-1, keepdim=True) + module.variance_epsilon).sqrt()


@dataclass(frozen=True)
class Encoded:
    """Prompt and answer as ids; the model reads `read` and should say `answer` from position `first` on."""

    prompt: list[int]
    answer: list[int]

    @property
    def read(self) -> list[int]:
        return self.prompt + self.answer[:-1]

    @property
    def first(self) -> int:
        return len(self.prompt) - 1


def encode_words(example: Example) -> Encoded:
    """Ids by looking words up, with BOS in front."""
    return Encoded([0, *(IDS[word] for word in example.prompt.split())], [IDS[w] for w in example.answer.split()])


def example_loss(model: Any, one: Encoded) -> Tensor:
    """Summed negative log-likelihood of the answer tokens, from the whole logits of one example."""
    logits = model(torch.tensor([one.read])).logits[0].log_softmax(dim=-1)
    return -sum(logits[one.first + k, token] for k, token in enumerate(one.answer))


def mean_loss(model: Any, encoded: Sequence[Encoded]) -> float:
    with torch.no_grad():
        return float(sum(example_loss(model, one) for one in encoded)) / len(encoded)


@dataclass(frozen=True)
class Site:
    """A plain module and the part of its input and of its output that belongs to one matrix."""

    module: Any
    rows: slice
    columns: slice
    conv1d: bool

    def weight(self) -> Tensor:
        """`[d_in, d_out]`, writable in place."""
        stored = self.module.weight.data
        return (stored if self.conv1d else stored.T)[self.rows, self.columns]


def site(model: Any, key: MatrixKey) -> Site:
    """Where a matrix lives in the plain model, worked out from the configuration alone."""
    config = model.config
    if config.model_type == "gpt2":
        block, width = model.transformer.h[key.layer], config.n_embd
        d_head = width // config.n_head
        if key.kind in (Kind.Q, Kind.K, Kind.V):
            start = "QKV".index(key.kind) * width
            heads = slice(start, start + width) if key.head is None else _head(key.head, d_head, start)
            return Site(block.attn.c_attn, slice(None), heads, conv1d=True)
        module = block.get_submodule(_GPT2[key.kind])
        return Site(module, slice(None) if key.head is None else _head(key.head, d_head), slice(None), conv1d=True)
    module = model.model.layers[key.layer].get_submodule(_LLAMA[key.kind])
    part = slice(None) if key.head is None else _head(key.head, config.head_dim)
    if key.kind is Kind.O:
        return Site(module, part, slice(None), conv1d=False)
    return Site(module, slice(None), part, conv1d=False)


def _head(head: int, width: int, start: int = 0) -> slice:
    return slice(start + head * width, start + (head + 1) * width)


def svd(model: Any, key: MatrixKey) -> tuple[Array, Array, Array]:
    """U, s, Vh of a matrix by numpy's LAPACK in float64, each u_i's largest entry positive."""
    u, s, vh = np.linalg.svd(site(model, key).weight().double().numpy(), full_matrices=False)
    sign = np.sign(u[np.abs(u).argmax(axis=0), np.arange(len(s))])
    return u * sign, s, vh * sign[:, None]


@contextmanager
def on_output(module: Any, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Replace a module's output by `change(input, output)` for the time of the block."""
    handle = module.register_forward_hook(lambda _, inputs, output: change(inputs[0], output))
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class Record:
    """Per token of every example: what the matrix reads, and the gradient of the summed loss at its output."""

    x: Array
    g: Array


def record(model: Any, key: MatrixKey, encoded: Sequence[Encoded]) -> Record:
    """Run the examples one at a time, without padding, and record one matrix's input and output gradient."""
    where = site(model, key)
    xs, gs = [], []
    for one in encoded:
        kept: list[Tensor] = []

        def keep(x: Tensor, y: Tensor, kept: list[Tensor] = kept) -> Tensor:
            y.retain_grad()
            kept.extend((x.detach(), y))
            return y

        model.zero_grad()
        with on_output(where.module, keep):
            example_loss(model, one).backward()
        x, y = kept
        assert y.grad is not None
        xs.append(x[0, :, where.rows])
        gs.append(y.grad[0, :, where.columns])
    return Record(torch.cat(xs).double().numpy(), torch.cat(gs).double().numpy())


def without_value(model: Any, key: MatrixKey, index: int, mean: Array | None) -> Any:
    """A copy of the plain model with one singular value taken out of the weight by hand.

    Args:
        model: the plain model; left as it is.
        key: the matrix.
        index: which singular value.
        mean: mean input for freeze removal, None for zero removal.
    """
    u, s, vh = svd(model, key)
    edited = copy.deepcopy(model)
    where = site(edited, key)
    where.weight().sub_(torch.tensor(s[index] * np.outer(u[:, index], vh[index])))
    if mean is not None:
        frozen = torch.tensor(s[index] * (mean @ u[:, index]) * vh[index])
        if where.module.bias is None:
            where.module.bias = torch.nn.Parameter(torch.zeros(where.module.weight.shape[0], dtype=torch.float64))
        where.module.bias.data[where.columns] += frozen
    return edited
