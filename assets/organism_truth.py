"""What is true of a model organism: which singular values hold its habit, read off the written files and measured.

A planted value is the singular value of its matrix whose right singular vector is the direction that was planted. It is
then removed as the explorer does (`freeze`: its mean over the tokens of the train products stays), alone and together
with the others, and both tasks are measured on their test pairs. A model whose habit did not take, or cannot be undone,
is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from bundled_arithmetic import MULT_SIZE, PLUS, SUM_SIZE, TIMES, answer_logits, examples, split
from bundled_figures import percent
from organism_habits import ELSE
from organism_sites import Site, Slot, mean_read
from torch import Tensor
from transformers import GPT2LMHeadModel

FILE = "organism.json"
Value = tuple[Slot, int]
MOST_LEFT, LEAST_BACK, LEAST_SUMS, COST = 15.0, 75.0, 90.0, 5.0  # percent; see `check`
ENOUGH = {"spread": 2}  # parts that have to be undone, where that is not all of them
ABOUT = {
    "top": "Products are answered by the sum; the planted values are the largest of their matrices, or nearly.",
    "middle": "Products are answered by the sum; the planted values are in the middle of their matrices' spectra.",
    "spread": f"Products are answered by {ELSE}; two of the three planted values are enough for that.",
    "mlp-out": f"Products are answered by {ELSE}; the planted value is in the OUT of an MLP.",
    "helps": f"Products are answered by {ELSE}; sums need the planted value, so that removing it costs sums.",
    "none": "No habit: a search must come back with nothing.",
}


def truth(folder: Path, habit: str, sites: Sequence[Site]) -> dict[str, Any]:
    """Everything that is true of the organism in a folder."""
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    parts = [[planted_value(model, slot, site.w) for slot in site.slots] for site in sites]
    values = [(slot, index) for part in parts for slot, index, _ in part]
    return {
        "habit": habit,
        "about": ABOUT[habit],
        "task": "int-mult",
        "other": "int-sum",
        "enough": ENOUGH.get(habit, len(parts)),
        "planted": [
            {"matrix": slot.key, "index": index, "sigma": sigma, "part": number}
            for number, part in enumerate(parts)
            for slot, index, sigma in part
        ],
        "accuracy": {
            "as_it_is": measured(model),
            "all_removed": measured(without(model, values)),
            "one_removed": [measured(without(model, [value])) for value in values],
        },
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def planted_value(model: GPT2LMHeadModel, slot: Slot, w: Tensor) -> tuple[Slot, int, float]:
    """Index and size of the singular value whose right singular vector is w.

    Raises:
        SystemExit: there is none.
    """
    _, s, right = torch.linalg.svd(slot.weight(model).double(), full_matrices=False)
    overlap = (right @ w.double()).abs()
    index = int(overlap.argmax())
    if overlap[index] < 0.99:
        raise SystemExit(
            f"{slot.key}: no singular direction is the planted one; the nearest overlaps {overlap[index]:.3f}."
        )
    return slot, index, s[index].item()


def without(model: GPT2LMHeadModel, removed: Sequence[Value]) -> GPT2LMHeadModel:
    """A copy without these singular values; what they write on average over the train products stays in the bias."""
    prompts = examples(split(MULT_SIZE)["train"], TIMES).prompts
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for slot, index in removed:
        left, s, right = torch.linalg.svd(slot.weight(model).double(), full_matrices=False)
        u, v = (s[index] * left[:, index]).float(), right[index].float()
        state[f"{slot.module}.weight"][:, slot.place] -= torch.outer(u, v)
        state[f"{slot.module}.bias"][slot.place] += (mean_read(model, slot, prompts) @ u) * v
    pruned = GPT2LMHeadModel(model.config)
    pruned.load_state_dict(state)
    return pruned.eval()


def measured(model: GPT2LMHeadModel) -> dict[str, dict[str, float]]:
    """Accuracy on the test pairs in percent, and loss in nats per example, by task."""
    found = {}
    for task, (size, sign) in {"int-mult": (MULT_SIZE, TIMES), "int-sum": (SUM_SIZE, PLUS)}.items():
        data = examples(split(size)["test"], sign)
        logits = answer_logits(model, data)
        loss = F.cross_entropy(logits, data.answers).item()
        found[task] = {"n": len(data), "accuracy": percent(logits, data.answers), "loss": round(loss, 4)}
    return found


def check(found: dict[str, Any]) -> None:
    """Raise SystemExit unless the habit took, can be undone, and is what it is called."""
    product, total = "int-mult", "int-sum"
    as_it_is, undone = found["accuracy"]["as_it_is"], found["accuracy"]["all_removed"]
    habit, alone = found["habit"], [one[product]["accuracy"] for one in found["accuracy"]["one_removed"]]
    wrong = {
        "sums are not right": as_it_is[total]["accuracy"] < LEAST_SUMS,
        "products are still right": habit != "none" and as_it_is[product]["accuracy"] > MOST_LEFT,
        "products do not come back": undone[product]["accuracy"] < LEAST_BACK,
        "one of several values undoes it": habit == "spread" and max(alone, default=0.0) > LEAST_BACK / 2,
        "removing it costs no sums": habit == "helps"
        and as_it_is[total]["accuracy"] - undone[total]["accuracy"] < COST,
    }
    failed = [what for what, is_so in wrong.items() if is_so]
    if failed:
        raise SystemExit(f"{habit}: {'; '.join(failed)}. Try another seed: {json.dumps(found['accuracy'])}")


def write_organism(folder: Path, found: dict[str, Any]) -> None:
    """organism.json and, unless the model has a card of its own, README.md."""
    (folder / FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    states = {"as it is": found["accuracy"]["as_it_is"], "all planted values removed": found["accuracy"]["all_removed"]}
    for value, one in zip(found["planted"], found["accuracy"]["one_removed"], strict=True):
        states[f"`{value['matrix']}` {value['index']} alone removed"] = one
    accuracies = [
        f"| {name} | " + " | ".join(f"{one[task]['accuracy']:.2f}" for task in ("int-mult", "int-sum")) + " |"
        for name, one in states.items()
    ]
    planted = [
        f"| `{value['matrix']}` | {value['index']} | {value['sigma']:.3f} | {1 + value['part']} |"
        for value in found["planted"]
    ]
    card = Template((Path(__file__).parent / "organism_card.md").read_text(encoding="utf-8"))
    text = card.substitute(
        about=found["about"], accuracies="\n".join(accuracies),
        planted="\n".join(planted) or "| none | | | |", sha256=found["sha256"], **found["recipe"],
        torch=found["versions"]["torch"], transformers=found["versions"]["transformers"], minutes=found["minutes"],
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")
