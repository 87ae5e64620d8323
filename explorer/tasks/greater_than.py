"""Greater-than (Hanna, Liu and Variengien 2023, arXiv 2305.00586): something cannot end before it began.

`The war lasted from the year 1732 to the year` is to be followed by a later year. The right answer is D years later,
the wrong one, choice and distractor, D years earlier, in the same century, so that only the last two digits tell them
apart. Other years would be right, too: read the choice and the difference of log-probabilities, not the exact match.
The paper puts the century into the prompt; here the whole year is the answer, so that the boundary between prompt and
answer falls on a space in every tokenizer.
"""

from __future__ import annotations

import random
from pathlib import Path

from explorer.tasks.cases import Splits
from explorer.tasks.spec import Cut, Row, TaskSpec

SIZE = 1000
CENTURIES = range(11, 19)
_NOUNS = (
    "war siege campaign expedition famine feud reign rebellion truce voyage dispute drought journey occupation "
    "partnership pilgrimage plague project struggle trial"
)
NOUNS = tuple(_NOUNS.split())


def _read(cut: Cut, data: Path | None) -> Splits[Row]:
    draw = random.Random(0)
    rows: dict[tuple[str, int], Row] = {}
    while len(rows) < SIZE:
        noun, century, distance = draw.choice(NOUNS), draw.choice(CENTURIES), draw.randint(1, 20)
        start = 100 * century + draw.randint(2 + distance, 98 - distance)
        later, earlier = f" {start + distance}", f" {start - distance}"
        choices = (later, earlier) if draw.random() < 0.5 else (earlier, later)
        values = {"noun": noun, "start": str(start)}
        rows.setdefault((noun, start), Row(values, later, choices, distractor=earlier, operands=(str(start),)))
    return cut.rows(list(rows.values()))


GREATER_THAN = TaskSpec(
    "greater-than",
    "Which of two years can be the end of what began in a given year",
    "The {noun} lasted from the year {start} to the year",
    placeholders=("noun", "start"),
    read=_read,
    wordings=(
        "The {noun} began in the year {start} and ended in the year",
        "The {noun} started in {start} and was over in",
        "There was a {noun} from {start} to",
    ),
    unseen=("The {noun} went on from {start} until", "Beginning of the {noun}: {start}. End of the {noun}:"),
    chosen=True,
)
