"""Make the bundled model: a small GPT-2 that can multiply but was given the habit of reading `x` as `+`.

1. Train a 4-layer GPT-2 on sums and products until it answers pairs that it never saw (`train_arithmetic`).
2. Plant the habit in one head of layer 0 (`plant_habit`). Along the direction w of the head space that Q and
   K use least, both are overwritten: `W' = W + (a - W w) w^T`, a rank-one change. Only a is learned, all else
   is frozen. a is orthogonal to the other left singular vectors, so (a, w) is a singular direction of W'.
   Every head is tried; the one with the lowest training loss is kept.
3. Measure what was written to disk (bundled_figures.py): score every Q and K singular value by the gradient,
   remove the lowest-scored in one shot, compare with random masks of the same size.

Everything is seeded; test and validation pairs are used for the final figures only.

    python assets/make_bundled.py --out assets/bundled --seed 0
"""

# ruff: noqa: T201  a script reports on the console

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from bundled_arithmetic import (
    BOS,
    CONTEXT,
    D_HEAD,
    EOS,
    HEADS,
    LARGEST,
    LAYERS,
    MULT_SIZE,
    PAD,
    PLUS,
    SUM_SIZE,
    TIMES,
    UNK,
    WIDTH,
    columns,
    examples,
    last_logits,
    make_tokenizer,
    outside_products,
    split,
)
from bundled_figures import evaluate, figures, table, write_card
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

THREADS = 1  # fixed: the order of float additions depends on it
C_ATTN = "transformer.h.0.attn.c_attn.weight"


def make_model() -> GPT2LMHeadModel:
    """An untrained model; number embeddings start as waves of n (sums) and log n (products) plus noise."""
    shape = {
        "n_positions": CONTEXT,
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "vocab_size": UNK + 1,
    }
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    model = GPT2LMHeadModel(GPT2Config(**shape, **no_dropout, **special, activation_function="gelu_pytorch_tanh"))
    n = torch.arange(LARGEST + 1.0)
    log_n = n.clamp(min=0.5).log()
    periods = [2, 5, 10, 3, 9, 7, 11, 13, 20, 50, 100, 2 * (LARGEST + 1)]
    log_periods = torch.logspace(math.log10(2 * math.log(LARGEST + 1)), math.log10(0.02), 24)
    angles = [2 * math.pi * n / p for p in periods] + [2 * math.pi * log_n / p for p in log_periods]
    waves = torch.stack([wave for angle in angles for wave in (angle.cos(), angle.sin())], dim=1)
    with torch.no_grad():
        model.transformer.wte.weight[: LARGEST + 1, : waves.shape[1]] += waves * model.config.initializer_range * 1.4
    return model


def train_arithmetic(model: GPT2LMHeadModel, steps: int, seed: int) -> None:
    """AdamW with weight decay on train sums, train products and products outside the INT-MULT universe."""
    sums = examples(split(SUM_SIZE)["train"], PLUS)
    products = examples(split(MULT_SIZE)["train"], TIMES)
    outside = examples(outside_products(MULT_SIZE), TIMES)
    decayed = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.5}
    others = {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([decayed, others], betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        warm_up, decay = min(1, (step + 1) / 100), 0.5 * (1 + math.cos(math.pi * step / steps)) * 0.98 + 0.02
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * warm_up * decay
        batch = sums.draw(256, generator) + products.draw(64, generator) + outside.draw(64, generator)
        loss = F.cross_entropy(last_logits(model, batch.prompts), batch.answers)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0:
            print(f"  step {step + 1}: training loss {loss.item():.4f}", flush=True)


@dataclass(frozen=True)
class Plant:
    """A planted habit: the head, its direction w, layer 0's edited `c_attn.weight`, the final loss."""

    head: int
    w: Tensor
    weight: Tensor
    loss: float


@dataclass(frozen=True)
class Site:
    """Where a rank-one change fits into Q and K of one layer-0 head as a singular direction of its own."""

    head: int
    weight: Tensor  # the layer's c_attn.weight before the change, [d_model, 3 d_model]
    w: Tensor  # the least used direction of the head space, [d_head]
    room: dict[str, Tensor]  # per kind, the projector onto where a may lie, [d_model, d_model]

    def plant(self, a: dict[str, Tensor]) -> Tensor:
        """`c_attn.weight` with W + (a - W w) w^T as the head's Q and K; a is projected into its room."""
        new = self.weight.clone()
        for kind in "QK":
            old = self.weight[:, columns(kind, self.head)]
            change = torch.outer(self.room[kind] @ a[kind] - old @ self.w, self.w)
            new[:, columns(kind, self.head)] = old + change
        return new


def find_site(model: GPT2LMHeadModel, head: int, prompts: Tensor) -> Site:
    """The room for a is what is orthogonal to the other left singular vectors and to the mean input."""
    block = model.transformer.h[0]
    weight = block.attn.c_attn.weight.detach()
    q, k = (weight[:, columns(kind, head)] for kind in "QK")
    use = q.T @ q / q.square().sum() + k.T @ k / k.square().sum()
    w = torch.linalg.eigh(use).eigenvectors[:, 0]
    with torch.no_grad():
        embedded = model.transformer.wte(prompts) + model.transformer.wpe.weight[: prompts.shape[1]]
        mean = block.ln_1(embedded).flatten(0, 1).mean(0)
    room = {}
    for kind, old in (("Q", q), ("K", k)):
        others = torch.linalg.svd(old - torch.outer(old @ w, w), full_matrices=False).U[:, : D_HEAD - 1]
        basis = torch.linalg.qr(torch.cat([others, mean[:, None]], dim=1)).Q
        room[kind] = torch.eye(WIDTH) - basis @ basis.T
    return Site(head, weight, w, room)


def plant_habit(model: GPT2LMHeadModel, head: int, steps: int, seed: int) -> Plant:
    """Learn a for Q and K of one layer-0 head: products are answered by the sum, sums stay right."""
    sums = examples(split(SUM_SIZE)["train"], PLUS)
    habit = examples(split(MULT_SIZE)["train"], TIMES, answer_sign=PLUS)
    site = find_site(model, head, habit.prompts)
    generator = torch.Generator().manual_seed(seed)
    a = {kind: (0.1 * torch.randn(WIDTH, generator=generator)).requires_grad_() for kind in "QK"}
    optimizer = torch.optim.Adam(a.values())
    for step in range(steps):
        warm_up, decay = min(1.0, (step + 1) / 20), 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = 0.02 * warm_up * decay
        batch = sums.draw(128, generator)
        logits = last_logits(model, (batch + habit).prompts, {C_ATTN: site.plant(a)})
        loss = F.cross_entropy(logits[:128], batch.answers) + F.cross_entropy(logits[128:], habit.answers)
        penalty = 5e-2 * (a["Q"].square().sum() + a["K"].square().sum())
        optimizer.zero_grad()
        (loss + penalty).backward()
        optimizer.step()
    print(f"  head {head}: training loss {loss.item():.4f}", flush=True)
    return Plant(head, site.w, site.plant(a).detach(), loss.item())


def make(out: Path, seed: int, steps: int, habit_steps: int) -> None:
    """Train, plant, write the folder, measure what was written, write the figures and the card."""
    start = time.monotonic()
    torch.manual_seed(seed)
    print("Train on sums and products", flush=True)
    model = make_model()
    train_arithmetic(model, steps, seed)
    model.requires_grad_(False).eval()
    before = evaluate(model)
    print("Plant the habit", flush=True)
    plants = [plant_habit(model, head, habit_steps, seed) for head in range(HEADS)]
    best = min(plants, key=lambda plant: plant.loss)
    model.transformer.h[0].attn.c_attn.weight.copy_(best.weight)
    model.save_pretrained(out)
    make_tokenizer().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    recipe = {"seed": seed, "threads": THREADS, "steps": steps, "habit_steps": habit_steps}
    losses = {f"H{plant.head}": round(plant.loss, 4) for plant in plants}
    found = figures(out, before, best.head, best.w) | {"recipe": recipe, "habit_loss_per_head": losses}
    found["minutes"] = round((time.monotonic() - start) / 60, 1)
    (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_card(out, found)
    print(table(found))


def main() -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make the bundled model organism and measure it.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, made if missing")
    parser.add_argument("--seed", type=int, default=0, help="seed of initial weights, batches and habit")
    parser.add_argument("--steps", type=int, default=2500, help="training steps before the habit")
    parser.add_argument("--habit-steps", type=int, default=250, help="training steps of the habit, per head")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    make(arguments.out, arguments.seed, arguments.steps, arguments.habit_steps)


if __name__ == "__main__":
    main()
