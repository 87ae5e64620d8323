"""Induction (Olsson et al. 2022, arXiv 2209.11895): continue a random sequence that has begun to repeat itself.

Ten different words in random order, then the first few of them again: the answer is the word that came next the first
time, the distractor another one of the ten. The words mean nothing together, so only the repetition can tell.
"""

from __future__ import annotations

import random
from pathlib import Path

from explorer.tasks.cases import Splits
from explorer.tasks.spec import Cut, Row, TaskSpec

SIZE, LENGTH, REPEATED = 500, 10, (2, 7)
_WORDS = (
    "apple arm art ball bank bed bell bird boat bone book box bread bridge bus cake camp car card cat chair child city "
    "clock cloud coat corn cow cup dance desk dog door dream dress duck ear egg eye farm fire fish flag floor foot "
    "fruit game garden glass gold grass hair hall hand hat heart hill horse house ice iron island key king knife lake "
    "lamp leaf leg letter light lion map milk moon mountain mouse nose oil paper park pen pig queen rain ring river "
    "road rock roof room salt sand school sea sheep ship shoe silver snow song star stone street sugar sun table tail "
    "tree wall watch water wheel wind window winter wood yard"
)
WORDS = tuple(_WORDS.split())


def _read(cut: Cut, data: Path | None) -> Splits[Row]:
    draw = random.Random(0)
    rows = []
    for _ in range(SIZE):
        words = draw.sample(WORDS, LENGTH)
        repeated = draw.randint(*REPEATED)
        answer, last = words[repeated], words[repeated - 1]
        distractor = draw.choice([word for word in words if word not in (answer, last)])
        values = {"sequence": " ".join(words), "repeated": " ".join(words[:repeated])}
        rows.append(Row(values, f" {answer}", distractor=f" {distractor}", operands=tuple(words)))
    return cut.rows(rows)


INDUCTION = TaskSpec(
    "induction",
    "The next word of a random sequence that repeats itself",
    "{sequence} {repeated}",
    placeholders=("sequence", "repeated"),
    read=_read,
)
