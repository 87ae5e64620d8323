"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593): who is given the thing?

`When Mary and John went to the store, John gave a book to` asks for ` Mary`, the name that occurs once; the distractor
is ` John`, the name that occurs twice. Names, places, objects and sentences are combined at random, once and for all;
in half of the sentences the giver is named first, in the other half second. The seed only splits.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from explorer.tasks.cases import Splits
from explorer.tasks.spec import Cut, Row, TaskSpec

SIZE = 1000
TEMPLATES = (
    "When {first} and {second} went to the {place}, {giver} gave a {object} to",
    "While {first} and {second} were at the {place}, {giver} handed a {object} to",
    "After {first} and {second} had met at the {place}, {giver} passed a {object} to",
    "{first} and {second} were working at the {place}. {giver} decided to give a {object} to",
    "{first} and {second} had a long talk at the {place}. Then {giver} showed a {object} to",
    "The {place} was nearly empty when {first} and {second} came in, and {giver} brought a {object} to",
)
_NAMES = (
    "Mary John Tom James Anna Paul David Sarah Mark Laura Peter Alice Robert Emma Daniel Kate Michael Lisa George Jane "
    "Henry Rachel Simon Helen"
)
NAMES = tuple(_NAMES.split())
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "station", "house", "park", "library")
OBJECTS = ("book", "ring", "drink", "basketball", "computer", "necklace", "letter", "key", "map", "flower")


def _read(cut: Cut, data: Path | None) -> Splits[Row]:
    draw = random.Random(0)
    seen: set[tuple[str, ...]] = set()
    rows: list[Row] = []
    while len(rows) < SIZE:
        giver, receiver = draw.sample(NAMES, 2)
        first, second = (giver, receiver) if len(rows) % 2 else (receiver, giver)
        place, thing = draw.choice(PLACES), draw.choice(OBJECTS)
        template = draw.choice(TEMPLATES)
        combination = (first, second, giver, place, thing)
        if combination in seen:
            continue
        seen.add(combination)
        values = {"first": first, "second": second, "giver": giver, "place": place, "object": thing}
        twins = " ".join((*sorted((first, second)), giver, place, thing))
        row = Row(values, f" {receiver}", distractor=f" {giver}", template=template, twins=twins)
        rows.append(replace(row, operands=(first, second)))
    return cut.rows(rows)


IOI = TaskSpec(
    "ioi",
    "Indirect object identification: the name that was said once",
    TEMPLATES[0],
    placeholders=("first", "second", "giver", "place", "object"),
    read=_read,
    wordings=TEMPLATES[1:4],
    unseen=TEMPLATES[4:],
    symmetric=True,
)
