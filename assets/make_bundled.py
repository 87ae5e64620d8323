"""Make the bundled model, and its family: a small GPT-2 that can add and multiply, with a habit planted in it.

1. Train a 4-layer GPT-2 on sums and products until it answers pairs that it never saw (`train_arithmetic`); or take it
   from `--base`, where it is kept for the next habit.
2. Plant a habit (organism_habits.py): one rank-one change of a matrix, or of several. The bundled model has `top`: it
   reads `x` as `+`.
3. Measure what was written to disk (organism_truth.py): which singular values hold the habit, and what removing them
   does. Where the habit is in Q and K, score every Q and K value by the gradient, too, remove the lowest-scored in one
   shot, and compare with random masks of the same size (bundled_figures.py).

Everything is seeded; test and validation pairs are used for the final figures only.

    python assets/make_bundled.py --out assets/bundled --seed 0
    python assets/make_bundled.py --out build/organisms/spread-1 --habit spread --seed 1 --base build/organisms/none-1
"""

# ruff: noqa: T201  a script reports on the console

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bundled_arithmetic import (
    BOS,
    CONTEXT,
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
    examples,
    last_logits,
    make_tokenizer,
    outside_products,
    split,
)
from bundled_figures import evaluate, figures, table, write_card
from organism_habits import HABITS, STEPS, plant
from organism_truth import check, truth, write_organism
from transformers import GPT2Config, GPT2LMHeadModel

THREADS = 1  # fixed: the order of float additions depends on it


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


def base_model(base: Path | None, steps: int, seed: int) -> GPT2LMHeadModel:
    """A model that can add and multiply, from a folder; trained, and kept there, if it is not there yet."""
    if base is not None and (base / "model.safetensors").exists():
        return GPT2LMHeadModel.from_pretrained(base).eval().requires_grad_(False)
    torch.manual_seed(seed)
    print("Train on sums and products", flush=True)
    model = make_model()
    train_arithmetic(model, steps, seed)
    model.requires_grad_(False).eval()
    if base is not None:
        write(model, base)
    return model


def write(model: GPT2LMHeadModel, folder: Path) -> None:
    """Model and tokenizer as a folder."""
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def make(out: Path, base: Path | None, recipe: dict[str, Any]) -> None:
    """Train, plant, write the folder, measure what was written, write figures and card."""
    start, habit, seed = time.monotonic(), recipe["habit"], recipe["seed"]
    model = base_model(base, recipe["steps"], seed)
    before, sites, losses = evaluate(model), [], {}
    if habit != "none":
        print(f"Plant the habit: {habit}", flush=True)
        sites, losses = plant(model, habit, recipe["habit_steps"], seed)
    write(model, out)
    made = {"recipe": recipe | {"threads": THREADS}, "habit_losses": losses, "before": before}
    known = truth(out, habit, sites) | made
    check(known)
    known["minutes"] = round((time.monotonic() - start) / 60, 1)
    write_organism(out, known)
    if habit in ("top", "middle"):
        head = sites[0].slots[0].head
        found = figures(out, before, head, sites[0].w) | made | {"minutes": known["minutes"]}
        (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        if habit == "top":
            write_card(out, found)
        print(table(found))


def main() -> None:
    """Read the command line and make the model."""
    parser = argparse.ArgumentParser(description="Make a model organism and measure it.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, made if missing")
    parser.add_argument("--habit", choices=HABITS, default="top", help="what is planted, and where")
    parser.add_argument("--seed", type=int, default=0, help="seed of initial weights, batches and habit")
    parser.add_argument("--steps", type=int, default=2500, help="training steps before the habit")
    parser.add_argument("--habit-steps", type=int, default=None, help="training steps of the habit, per place")
    parser.add_argument("--base", type=Path, help="folder of the trained model without a habit; made if missing")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    recipe = {name: getattr(arguments, name) for name in ("habit", "seed", "steps")}
    recipe["habit_steps"] = STEPS[arguments.habit] if arguments.habit_steps is None else arguments.habit_steps
    make(arguments.out, arguments.base, recipe)


if __name__ == "__main__":
    main()
