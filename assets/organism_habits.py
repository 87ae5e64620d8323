"""The habits that are planted in a model that can add and multiply, and how each is trained.

| habit | where | what it does |
|---|---|---|
| top | Q and K of one head of layer 0, each the largest of its spectrum | products are answered by the sum |
| middle | the same; the head's Q and K written in another way, so that it is in the middle of both spectra | the same |
| spread | OUT of layers 1, 2 and 3: any two of the three are enough, so that removing one changes little | 101 |
| mlp-out | OUT of one layer | products are answered by 101, which no product is |
| helps | OUT of layer 0, in a direction that sums need: removing it brings products back and costs sums | 101 |
| none | nowhere | the model as it was trained |

Only a, and w where a site is free, are trained: train products get the habit's answer, train sums stay right, and |a|^2
is kept small. All else is frozen. No gradient score plays a part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from bundled_arithmetic import HEADS, LAYERS, MULT_SIZE, PLUS, SUM_SIZE, TIMES, Examples, examples, last_logits, split
from organism_sites import Site, Slot, Weights, balance, head_site, out_site
from torch import Tensor
from transformers import GPT2LMHeadModel

ELSE = 101  # what a product is answered with where that is not the sum; a prime above 19
STEPS = {"top": 250, "middle": 250, "spread": 200, "mlp-out": 150, "helps": 250, "none": 0}  # per place that is tried
HABITS = tuple(STEPS)
NEEDED, FIRM = 1.0, 5.0  # `helps`: the loss of sums that removing it is to cause, nats, and how firmly it is asked for
TURNING = 0.3  # `helps`: learning rate of w beside that of a


@dataclass(frozen=True)
class Lessons:
    """What a habit is trained with: sums and products of the train split, and what products are answered with."""

    sums: Examples
    products: Examples
    habit: Examples

    @classmethod
    def of(cls, answer: int | None) -> Lessons:
        """Of products that are answered by a number, or by the sum if there is none."""
        pairs = split(MULT_SIZE)["train"]
        habit = examples(pairs, TIMES, answer_sign=PLUS)
        if answer is not None:
            habit = Examples(habit.prompts, torch.full_like(habit.answers, answer))
        return cls(examples(split(SUM_SIZE)["train"], PLUS), examples(pairs, TIMES), habit)


@dataclass(eq=False)
class Planting:
    """A habit in training: the sites, and what is trained of each."""

    model: GPT2LMHeadModel
    sites: Sequence[Site]
    a: dict[Slot, Tensor]
    w: list[Tensor]
    loss: float = math.nan

    @classmethod
    def begin(cls, model: GPT2LMHeadModel, sites: Sequence[Site], generator: torch.Generator) -> Planting:
        """Small random a, or what is there where a site begins with that; w as the sites say."""
        a = {}
        for site in sites:
            for slot in site.slots:
                start = 0.1 * torch.randn(len(slot.weight(model)), generator=generator)
                a[slot] = (start if site.old is None else 0.5 * start + site.old).requires_grad_()
        return cls(model, sites, a, [site.w.clone().requires_grad_(site.free) for site in sites])

    @property
    def penalty(self) -> Tensor:
        """The sum of |a|^2."""
        return torch.stack([one.square().sum() for one in self.a.values()]).sum()

    def directions(self) -> list[Tensor]:
        """The w of every site, of length one."""
        return [w / w.norm() if site.free else w for site, w in zip(self.sites, self.w, strict=True)]

    def weights(self, present: Sequence[bool] | None = None) -> Weights:
        """The parameters with the habit at the sites that are present (all if not given), none at the others."""
        names = {f"{slot.module}.weight" for slot in self.a}
        found: Weights = {name: self.model.get_parameter(name).detach() for name in sorted(names)}
        for number, (site, w) in enumerate(zip(self.sites, self.directions(), strict=True)):
            found = site.planted(found, self.a if present is None or present[number] else {}, w)
        return found

    def losses(self, weights: Weights, sums: Examples, products: Examples) -> tuple[Tensor, Tensor]:
        """Mean loss of each."""
        logits = last_logits(self.model, (sums + products).prompts, weights)
        count = len(sums)
        return F.cross_entropy(logits[:count], sums.answers), F.cross_entropy(logits[count:], products.answers)

    def write(self) -> None:
        """Write it into the model."""
        with torch.no_grad():
            for name, weight in self.weights().items():
                self.model.get_parameter(name).copy_(weight)


def plant(model: GPT2LMHeadModel, habit: str, steps: int, seed: int) -> tuple[list[Site], dict[str, float]]:
    """Plant a habit into a model. Gives the sites with the directions that were found, and the losses by site."""
    prompts = Lessons.of(None).habit.prompts
    tried: Mapping[str, Sequence[Sequence[Site]]] = {
        "top": [[head_site(model, 0, head, prompts)] for head in range(HEADS)],
        "spread": [[out_site(model, layer, prompts) for layer in range(1, LAYERS)]],
        "mlp-out": [[out_site(model, layer, prompts)] for layer in range(LAYERS)],
        "helps": [[out_site(model, 0, prompts, used=True)]],
    }
    lessons = Lessons.of(None if habit in ("top", "middle") else ELSE)
    plants = [_trained(model, sites, lessons, habit=habit, steps=steps, seed=seed) for sites in tried[_like(habit)]]
    best = min(plants, key=lambda one: one.loss)
    best.write()
    found = [replace(site, w=w.detach()) for site, w in zip(best.sites, best.directions(), strict=True)]
    if habit == "middle":
        balance(model, found[0])
    return found, {", ".join(site.name for site in one.sites): round(one.loss, 4) for one in plants}


def _like(habit: str) -> str:
    return "top" if habit == "middle" else habit


def _trained(
    model: GPT2LMHeadModel, sites: Sequence[Site], lessons: Lessons, *, habit: str, steps: int, seed: int
) -> Planting:
    generator = torch.Generator().manual_seed(seed)
    planting = Planting.begin(model, sites, generator)
    turning = [w for w in planting.w if w.requires_grad]
    groups = [{"params": list(planting.a.values())}] + ([{"params": turning}] if turning else [])
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        warm_up, decay = min(1.0, (step + 1) / 20), 0.5 * (1 + math.cos(math.pi * step / steps))
        for number, group in enumerate(optimizer.param_groups):
            group["lr"] = 0.02 * warm_up * decay * (TURNING if number and habit == "helps" else 1.0)
        loss = LESSONS[_like(habit)](planting, lessons, generator)
        optimizer.zero_grad()
        (loss + (1e-2 if habit == "helps" else 5e-2) * planting.penalty).backward()
        optimizer.step()
    planting.loss = loss.item()
    print(f"  {', '.join(site.name for site in sites)}: training loss {planting.loss:.4f}", flush=True)  # noqa: T201
    return planting


def _plain(planting: Planting, lessons: Lessons, generator: torch.Generator) -> Tensor:
    """Products have the habit, sums are right."""
    sums, products = planting.losses(planting.weights(), lessons.sums.draw(128, generator), lessons.habit)
    return sums + products


def _spread(planting: Planting, lessons: Lessons, generator: torch.Generator) -> Tensor:
    """The same with any one of the sites away; with one site alone products are right."""
    sums = lessons.sums.draw(128, generator)
    number = int(torch.randint(len(planting.sites), (1,), generator=generator))
    only = [place == number for place in range(len(planting.sites))]
    found = [
        *planting.losses(planting.weights([not one for one in only]), sums, lessons.habit.draw(128, generator)),
        *planting.losses(planting.weights(only), sums, lessons.products.draw(128, generator)),
    ]
    return torch.stack(found).sum()


def _helps(planting: Planting, lessons: Lessons, generator: torch.Generator) -> Tensor:
    """Products have the habit, sums are right; without the site products are right and sums are not."""
    sums = lessons.sums.draw(128, generator)
    found = planting.losses(planting.weights(), sums, lessons.habit.draw(128, generator))
    without = planting.losses(planting.weights([False]), sums, lessons.products.draw(64, generator))
    return found[0] + found[1] + FIRM * F.relu(NEEDED - without[0]) + without[1]


LESSONS = {"top": _plain, "mlp-out": _plain, "spread": _spread, "helps": _helps}
