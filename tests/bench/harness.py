"""Rows about tasks with choices: our evaluation against lm-evaluation-harness' on the same prompts, model and type.

The harness runs the prompt of an example once if its choices are of one token, and reads the whole vocabulary at
every position; what remains to be saved there is the unembedding of the other positions, about a fifth of SmolLM2.
"""

from __future__ import annotations

import random
from typing import Any

from explorer.measure.choices import Alternatives, alternatives
from explorer.tasks import Example, Framing, Task
from tests.bench.subjects import Subject, plain_model
from tests.bench.timing import Row, paired, row

EXAMPLES, AT_ONCE, TARGET = 150, 64, 0.5
AGREE = 1e-3  # nats, between log-probabilities in float32
CHOICES = {"one token": (" yes", " no"), "several tokens": (" yes, it does", " no, it does not")}
WORDS = ("river", "bank", "money", "light", "run", "play", "match", "fire", "water", "plant", "head", "board", "house")


def harness_rows(subject: Subject, runs: int) -> list[Row]:
    """One row per kind of choices; raises AssertionError if the two do not agree on the log-probabilities."""
    from lm_eval.models.huggingface import HFLM  # of the extra `bench` alone

    model, tokenizer = plain_model(subject.model), subject.model.tokenizer
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=AT_ONCE)
    return [_row(subject, theirs, runs, kind) for kind in CHOICES]


def _row(subject: Subject, theirs: Any, runs: int, kind: str) -> Row:
    from lm_eval.api.instance import Instance

    task = _same_meaning(CHOICES[kind])
    pairs = [(one.prompt, choice) for one in task.split("test") for choice in one.choices]

    def ours() -> Alternatives:
        return alternatives(subject.view, task, "test")

    def harness() -> list[float]:
        asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
        return [logprob for logprob, _ in theirs.loglikelihood(asked, disable_tqdm=True)]

    found = ours()
    logprobs = [
        dict(zip(texts, mine, strict=True))[choice]
        for one, texts, mine in zip(found.examples, found.texts, found.logprobs, strict=True)
        for choice in one.choices
    ]
    apart = max(abs(a - b) for a, b in zip(logprobs, harness(), strict=True))
    assert apart < AGREE, f"log-probabilities differ by {apart:.2g} nats"
    note = f"{EXAMPLES} examples; log-probabilities differ by at most {apart:.1g} nats"
    return row(f"choices of {kind}", "lm-eval", paired(ours, harness, runs, subject.device), TARGET, note)


def _same_meaning(choices: tuple[str, ...]) -> Task:
    """Whether a word means the same in two sentences, of random words: in form like WiC, without its data."""
    draw = random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choices(WORDS, k=7))

    examples = tuple(
        Example(
            f"Sentence 1: {sentence()}. Sentence 2: {sentence()}. "
            f"Does {draw.choice(WORDS)} mean the same in both? Answer:",
            draw.choice(choices),
            choices=choices,
        )
        for _ in range(EXAMPLES)
    )
    few, as_it_is = examples[:2], Framing(bos="never")  # the harness adds what the tokenizer itself does
    about = "words in two sentences"
    return Task("same-meaning", about, train=few, validation=few, test=examples, seed=0, framing=as_it_is)
