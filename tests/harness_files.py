"""Task files of the lm-evaluation-harness with documents, in form like sciq, piqa and boolq, and of loglikelihood."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORDS = ("river", "bank", "money", "light", "run", "play", "match", "fire", "water", "plant", "head", "board", "house")
SCIQ = """\
task: sciq_like
dataset_path: json
dataset_kwargs:
  data_files: {train: FOLDER/sciq-train.jsonl, validation: FOLDER/sciq-validation.jsonl, test: FOLDER/sciq-test.jsonl}
output_type: multiple_choice
training_split: train
validation_split: validation
test_split: test
doc_to_text: "{{support.lstrip()}}\\nQuestion: {{question}}\\nAnswer:"
doc_to_target: 3
doc_to_choice: "{{[distractor1, distractor2, distractor3, correct_answer]}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
PIQA = """\
task: piqa_like
dataset_path: csv
dataset_kwargs:
  data_files: {train: FOLDER/piqa-train.csv, validation: FOLDER/piqa-validation.csv}
output_type: multiple_choice
training_split: train
validation_split: validation
num_fewshot: 2
doc_to_text: "Question: {{goal}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{[sol1, sol2]}}"
"""
BOOLQ = """\
include: boolq-base.yaml
task: boolq_like
dataset_path: parquet
dataset_kwargs:
  data_files: {train: FOLDER/boolq-train.parquet, validation: FOLDER/boolq-validation.parquet}
description: "Answer the question.\\n\\n"
fewshot_split: train
fewshot_config:
  sampler: first_n
num_fewshot: 1
"""
BOOLQ_BASE = """\
output_type: multiple_choice
training_split: train
validation_split: validation
doc_to_text: "{{passage}}\\nQuestion: {{question}}?\\nAnswer: "
target_delimiter: ""
doc_to_target: label
doc_to_choice: ["no", "yes"]
"""
LAST_WORD = """\
task: last_word
dataset_path: json
dataset_kwargs:
  data_files: {test: FOLDER/last-word.jsonl}
output_type: loglikelihood
test_split: test
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
metric_list:
  - metric: perplexity
  - metric: acc
"""
FILES = {"sciq": SCIQ, "piqa": PIQA, "boolq": BOOLQ, "boolq-base": BOOLQ_BASE, "last-word": LAST_WORD}
NAMES = {"sciq": "sciq_like", "piqa": "piqa_like", "boolq": "boolq_like", "last-word": "last_word"}


def write(folder: Path, count: int = 12, seed: int = 0) -> Path:
    """Write the task files and `count` documents of each of their splits into a folder."""
    import pandas as pd

    draw = random.Random(seed)

    def words(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    def apart(n: int) -> list[str]:
        return [f"{word} {words(1, 2)}" for word in draw.sample(WORDS, n)]

    def sciq() -> dict[str, Any]:
        wrong = dict(zip(("distractor1", "distractor2", "distractor3", "correct_answer"), apart(4), strict=True))
        return {"question": words(3, 6), "support": f" {words(2, 8)}", **wrong}

    def piqa() -> dict[str, Any]:
        return dict(zip(("goal", "sol1", "sol2", "label"), (words(2, 6), *apart(2), draw.randrange(2)), strict=True))

    def boolq() -> dict[str, Any]:
        return {"passage": words(4, 9), "question": words(2, 5), "label": draw.randrange(2)}

    makers: Mapping[str, Callable[[], dict[str, Any]]] = {"sciq": sciq, "piqa": piqa, "boolq": boolq}
    for name, make in makers.items():
        for split in ("train", "validation", "test"):
            rows = pd.DataFrame([make() for _ in range(count)])
            if name == "sciq":
                rows.to_json(folder / f"sciq-{split}.jsonl", orient="records", lines=True)
            elif name == "piqa":
                rows.to_csv(folder / f"piqa-{split}.csv", index=False)
            else:
                rows.to_parquet(folder / f"boolq-{split}.parquet")
    (folder / "last-word.jsonl").write_text("\n".join(json.dumps({"text": words(3, 9)}) for _ in range(count)))
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text.replace("FOLDER", str(folder)))
    return folder
