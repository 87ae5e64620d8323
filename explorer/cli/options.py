"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = "bundled, smollm2-135m, a hub id (org/name, org/name@revision), a model folder or a .gguf file."

ModelName = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
TaskName = Annotated[str, typer.Option("--task", help="A task of `tasks list`, or the path of a .jsonl or .csv file.")]
Shots = Annotated[
    int, typer.Option("--shots", min=0, help="Put K solved train examples, the same for all, in front of every prompt.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        help="Another prompt with the placeholders that `tasks list` shows ({prompt} for a file); \\n breaks the line.",
    ),
]
Bos = Annotated[
    str,
    typer.Option(
        "--bos",
        help="BOS token in front: auto (if the tokenizer has one and the task wants one; in a chat as the template "
        "says), always, or never.",
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Ask through the tokenizer's chat template: the prompt is the user's turn, the answer, without blanks in "
        "front, the beginning of the assistant's; shots are earlier turns.",
    ),
]
System = Annotated[
    str | None, typer.Option("--system", help="System message of the chat; the template's if not given.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of SuperGLUE's JSON lines for cb, copa and rte; from the hub if not given."),
]
Metric = Annotated[
    str,
    typer.Option(
        "--metric",
        help="What counts as right: exact (every answer token), choice (the answer has the largest log-probability of "
        "its choices), choice-mean (the largest per token); auto: choice where all examples of a split have choices.",
    ),
]
Kinds = Annotated[str, typer.Option("--kinds", help="Some of Q, K, V, O, IN, GATE, OUT with commas between, or all.")]
Stacked = Annotated[bool, typer.Option("--stacked", help="Take attention matrices whole instead of per head.")]
Scorer = Annotated[
    str,
    typer.Option(
        "--scorer",
        help="gradient (first order), hybrid (the same, corrected by measured effects), curvature (with a second-order "
        "term), integrated (share in removing all), exact (one pass per value: slow), as-released (the paper's code), "
        "magnitude or energy (no gradients), random (control).",
    ),
]
Bootstrap = Annotated[
    int,
    typer.Option("--bootstrap", help="Standard errors from so many resamples; for gradient, integrated, curvature."),
]
Steps = Annotated[int, typer.Option("--steps", help="Points on the path of integrated.")]
ScorePath = Annotated[
    str, typer.Option("--path", help="What integrated removes together: all matrices, or one matrix after the other.")
]
Draws = Annotated[int, typer.Option("--draws", help="Answers drawn per example by curvature.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Examples in a mini-batch of as-released.")]
AnswerToken = Annotated[
    int, typer.Option("--answer-token", help="Which token of the answer as-released looks at, from 0.")
]
Mode = Annotated[
    str,
    typer.Option("--mode", help="What replaces a removed part: freeze (its mean over train tokens) or zero (nothing)."),
]
Gain = Annotated[
    float, typer.Option("--gain", help="Share of each value that stays, from 0 (removed) to below 1 (scaled).")
]
Split = Annotated[str, typer.Option("--split", help="train, validation or test.")]
MaskOut = Annotated[Path, typer.Option("--out", help="Mask file to write; a file that is there is replaced.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N examples of the split.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the splits and of random choices; EIGENPRUNE_SEED or 0 if not given."),
]
Basis = Annotated[
    str,
    typer.Option(
        "--basis", help="raw (weights as in the checkpoint) or folded (layer norms folded in: other singular values)."
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, float64, bfloat16 or float16; EIGENPRUNE_DTYPE or float32 if not given."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="Such as cpu or cuda; EIGENPRUNE_DEVICE or cpu if not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
