"""The figures of the bundled model: gradient scores, one-shot pruning, random masks, and its card."""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from bundled_arithmetic import (
    D_HEAD,
    HEADS,
    MULT_SIZE,
    PLUS,
    SUM_SIZE,
    TIMES,
    Examples,
    answer_logits,
    columns,
    examples,
    last_logits,
    split,
)
from torch import Tensor
from transformers import GPT2LMHeadModel

TASKS = {"INT-SUM": (SUM_SIZE, PLUS), "INT-MULT": (MULT_SIZE, TIMES)}
MODES = ("freeze", "zero")
RANDOM_MASKS = 20
MOST_REMOVED = 4


@dataclass(frozen=True)
class SingularValue:
    """One singular value of Q or K: direction, frozen mean c = m . u, score per mode (nats per example)."""

    layer: int
    kind: str
    head: int
    index: int
    sigma: float
    u: Tensor
    v: Tensor
    frozen_mean: float
    score: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """What figures.json says about it."""
        key = f"L{self.layer}.{self.kind}.H{self.head}"
        return {
            "key": key,
            "index": self.index,
            "sigma": self.sigma,
            "frozen_mean": self.frozen_mean,
            "score": self.score,
        }


def score_all(model: GPT2LMHeadModel, data: Examples) -> list[SingularValue]:
    """Gradient scores of all Q and K singular values, per head, from one forward and backward.

    freeze: -s/E u^T (X^T G - m (1^T G)) v, zero: -s/E u^T X^T G v, with X what the matrix reads (after the
    layer norm), G the gradient of the summed loss at its output, m the mean of X over all tokens, and E examples.
    Negative: removing it helps.
    """
    reads: dict[int, Tensor] = {}
    blocks = model.transformer.h
    hooks = [
        block.ln_1.register_forward_hook(lambda _m, _args, out, layer=layer: reads.update({layer: out.detach()}))
        for layer, block in enumerate(blocks)
    ]
    model.zero_grad()
    F.cross_entropy(last_logits(model, data.prompts), data.answers).backward()
    for hook in hooks:
        hook.remove()
    found: list[SingularValue] = []
    for layer, block in enumerate(blocks):
        attention, mean = block.attn.c_attn, reads[layer].flatten(0, 1).mean(0)
        for kind in "QK":
            for head in range(HEADS):
                place = columns(kind, head)
                u, s, vh = torch.linalg.svd(attention.weight.detach()[:, place], full_matrices=False)
                gradient, bias_gradient = attention.weight.grad[:, place], attention.bias.grad[place]
                zero = -s * (u * (gradient @ vh.T)).sum(0)
                freeze = zero + s * (mean @ u) * (vh @ bias_gradient)
                for i in range(D_HEAD):
                    scores = {"freeze": freeze[i].item(), "zero": zero[i].item()}
                    c = (mean @ u[:, i]).item()
                    found.append(SingularValue(layer, kind, head, i, s[i].item(), u[:, i], vh[i], c, scores))
    return found


def without(model: GPT2LMHeadModel, removed: Sequence[SingularValue], mode: str) -> GPT2LMHeadModel:
    """A copy of the model without these singular values."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for value in removed:
        place = columns(value.kind, value.head)
        name = f"transformer.h.{value.layer}.attn.c_attn"
        state[f"{name}.weight"][:, place] -= value.sigma * torch.outer(value.u, value.v)
        if mode == "freeze":
            state[f"{name}.bias"][place] += value.sigma * value.frozen_mean * value.v
    pruned = GPT2LMHeadModel(model.config).to(model.dtype)
    pruned.load_state_dict(state)
    return pruned.eval()


Report = dict[str, dict[str, dict[str, float]]]  # task -> split -> n, accuracy, loss


def evaluate(model: GPT2LMHeadModel) -> Report:
    """Accuracy (percent), loss (nats per example), and for products how often the answer is the sum."""
    report: Report = {}
    for task, (size, sign) in TASKS.items():
        report[task] = {}
        for part, pairs in split(size).items():
            data = examples(pairs, sign)
            logits = answer_logits(model, data)
            loss = round(F.cross_entropy(logits, data.answers).item(), 4)
            report[task][part] = {"n": len(data), "accuracy": percent(logits, data.answers), "loss": loss}
            if sign == TIMES:
                sums = examples(pairs, sign, answer_sign=PLUS).answers
                report[task][part]["answers_the_sum"] = percent(logits, sums)
    return report


def percent(logits: Tensor, answers: Tensor) -> float:
    """Percent of the examples whose answer has the largest logit."""
    return round(100 * (logits.argmax(-1) == answers).double().mean().item(), 2)


def random_masks(model: GPT2LMHeadModel, values: Sequence[SingularValue], count: int) -> list[dict[str, float]]:
    """Test accuracies under random masks of `count` values (freeze), one mask per seed 0, 1, ..."""
    tests = {task: examples(split(size)["test"], sign) for task, (size, sign) in TASKS.items()}
    found = []
    for seed in range(RANDOM_MASKS):
        pruned = without(model, random.Random(seed).sample(values, count), "freeze")
        right = {task: percent(answer_logits(pruned, data), data.answers) for task, data in tests.items()}
        found.append({"seed": seed} | right)
    return found


def figures(folder: Path, before: Report, head: int, w: Tensor) -> dict[str, Any]:
    """Everything measured on the written model, scores in float64; `w` tells which values were planted."""
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    values = score_all(copy.deepcopy(model).double(), examples(split(MULT_SIZE)["train"], TIMES))
    ranked = {mode: sorted(values, key=lambda value, m=mode: value.score[m]) for mode in MODES}
    of_head = {kind: [v for v in values if (v.layer, v.kind, v.head) == (0, kind, head)] for kind in "QK"}
    planted = [max(those, key=lambda v: abs(v.v @ w.double()).item()) for those in of_head.values()]
    ranks = [{mode: ranked[mode].index(v) + 1 for mode in MODES} for v in planted]
    counts = range(1, MOST_REMOVED + 1)
    return {
        "layer": 0,
        "head": head,
        "planted": [v.facts() | {"rank": rank} for v, rank in zip(planted, ranks, strict=True)],
        "before": before,
        "after": evaluate(model),
        "pruned": {m: {str(k): evaluate(without(model, ranked[m][:k], m)) for k in counts} for m in MODES},
        "lowest_scored": {mode: [v.facts() for v in ranked[mode][:10]] for mode in MODES},
        "random_masks": {str(n): random_masks(model, values, n) for n in (len(planted), MOST_REMOVED)},
        "parameters": model.num_parameters(),
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, INT-MULT and INT-SUM test accuracy of every state that was measured."""
    states = {"before the habit": found["before"], "after the habit (as shipped)": found["after"]}
    for mode in MODES:
        for count, report in found["pruned"][mode].items():
            states[f"{count} lowest-scored removed, {mode}"] = report
    table = [
        (name, *(f"{report[task]['test']['accuracy']:.2f}" for task in ("INT-MULT", "INT-SUM")))
        for name, report in states.items()
    ]
    for size, masks in found["random_masks"].items():
        spans = [[mask[task] for mask in masks] for task in ("INT-MULT", "INT-SUM")]
        table.append((f"{len(masks)} random masks of {size}", *(f"{min(s):.2f} to {max(s):.2f}" for s in spans)))
    return table


def table(found: dict[str, Any]) -> str:
    """The measured figures as a Markdown table."""
    lines = ["| test accuracy, percent | INT-MULT | INT-SUM |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows(found)])


def ground_truth(found: dict[str, Any]) -> str:
    """The planted singular values as a Markdown table."""
    lines = [
        "| matrix | index | sigma | score, freeze | rank of 1,024 | score, zero | rank |",
        "| --- " * 7 + "|",
    ]
    for v in found["planted"]:
        score, rank = v["score"], v["rank"]
        lines.append(
            f"| `{v['key']}` | {v['index']} | {v['sigma']:.3f} | {score['freeze']:.3f} | {rank['freeze']} "
            f"| {score['zero']:.3f} | {rank['zero']} |"
        )
    return "\n".join(lines)


def write_card(folder: Path, found: dict[str, Any]) -> None:
    """README.md of the model folder: bundled_card.md with the figures filled in."""
    after = found["after"]["INT-MULT"]["test"]
    third = found["lowest_scored"]["freeze"][len(found["planted"])]
    card = Template((Path(__file__).parent / "bundled_card.md").read_text(encoding="utf-8")).substitute(
        table=table(found),
        ground_truth=ground_truth(found),
        head=found["head"],
        answers_the_sum=f"{after['answers_the_sum']:.1f}",
        next_score=f"`{third['key']}` index {third['index']}: {third['score']['freeze']:.3f}",
        minutes=found["minutes"],
        parameters=f"{found['parameters']:,}",
        sha256=found["sha256"],
        torch=found["versions"]["torch"],
        transformers=found["versions"]["transformers"],
        **found["recipe"],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
