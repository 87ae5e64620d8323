"""Options that several commands share: one name, one meaning, one help text."""

from __future__ import annotations

from typing import Annotated

import typer

MODEL_HELP = "bundled, smollm2-135m, a hub id (org/name, org/name@revision), a model folder or a .gguf file."

ModelName = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
TaskName = Annotated[str, typer.Option("--task", help="A task of `tasks list`, or the path of a .jsonl file.")]
Kinds = Annotated[str, typer.Option("--kinds", help="Some of Q, K, V, O, IN, GATE, OUT with commas between, or all.")]
Stacked = Annotated[bool, typer.Option("--stacked", help="Take attention matrices whole instead of per head.")]
Scorer = Annotated[
    str,
    typer.Option("--scorer", help="gradient (first order), exact (one pass per value: slow) or random (control)."),
]
Mode = Annotated[
    str,
    typer.Option("--mode", help="What replaces a removed part: freeze (its mean over train tokens) or zero (nothing)."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first N examples of the split.")]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the splits and of random choices; EIGENPRUNE_SEED or 0 if not given."),
]
Dtype = Annotated[
    str | None,
    typer.Option("--dtype", help="float32, float64, bfloat16 or float16; EIGENPRUNE_DTYPE or float32 if not given."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="Such as cpu or cuda; EIGENPRUNE_DEVICE or cpu if not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
