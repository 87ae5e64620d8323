"""The programs that others read exports with, run as they would: this file knows nothing of the explorer.

It is run as a script, in a process of its own, on a job file (JSON): `format`, `folder` (the export), `base` (folder of
the unpruned model), `dtype`, `prompts` (token ids, and from which position on log-probabilities are wanted),
`vocabulary` (its size), `out`. It writes a safetensors file with the log-probabilities of every way in which the client
can read the export, by name.

Attention is `eager`, which is what the explorer's own numbers come from; others round differently.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Job = Mapping[str, Any]


def plain_model(folder: str, dtype: str, **options: Any) -> Any:
    """A model as transformers loads it."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), attn_implementation="eager", **options
    )
    return loaded.eval()


@torch.no_grad()
def log_probabilities(model: Any, prompts: list[Mapping[str, Any]]) -> Tensor:
    """`[position, vocabulary]`, the wanted positions of all prompts one after the other, each prompt run alone."""
    found = []
    for prompt in prompts:
        logits = model(torch.tensor([prompt["ids"]]), use_cache=False).logits[0, prompt["first"] :]
        found.append(logits.float().log_softmax(dim=-1) if logits.dtype.itemsize < 4 else logits.log_softmax(dim=-1))
    return torch.cat(found)


def checkpoint(job: Job) -> dict[str, Tensor]:
    """transformers, from the folder alone."""
    return {"loaded": log_probabilities(plain_model(job["folder"], job["dtype"]), job["prompts"])}


def lora(job: Job) -> dict[str, Tensor]:
    """peft: the adapter on its base; saved by peft and read again; merged, where the base can hold its biases."""
    from peft import PeftModel

    dtype, prompts = job["dtype"], job["prompts"]
    model: Any = PeftModel.from_pretrained(plain_model(job["base"], dtype), job["folder"]).eval()
    found = {"loaded": log_probabilities(model, prompts)}
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        second: Any = PeftModel.from_pretrained(plain_model(job["base"], dtype), again).eval()
        found["saved again"] = log_probabilities(second, prompts)
    layers = [one for one in model.modules() if hasattr(one, "lora_B") and hasattr(one, "base_layer")]
    biased = any(linear.bias is not None for one in layers for linear in one.lora_B.values())
    if not biased or all(getattr(one.base_layer, "bias", None) is not None for one in layers):
        found["merged"] = log_probabilities(model.merge_and_unload(), prompts)
    return found


def hooks(job: Job) -> dict[str, Tensor]:
    """The exported Python file on a plain model: applied, and taken off again."""
    path = Path(job["folder"]) / "eigenprune_hooks.py"
    spec = importlib.util.spec_from_file_location("eigenprune_hooks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model, prompts = plain_model(job["base"], job["dtype"]), job["prompts"]
    before = log_probabilities(model, prompts)
    undo = module.apply(model)
    found = {"applied": log_probabilities(model, prompts)}
    undo()
    if not torch.equal(log_probabilities(model, prompts), before):
        raise RuntimeError("the model is not as it was after the hooks have been taken off")
    return found


def dataset(job: Job) -> dict[str, Tensor]:
    """datasets: the rows of removed values put onto a plain model; the other table has to hold them, too."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory() as cache:
        removed, values = (
            load_dataset(job["folder"], name, split="train", cache_dir=cache).to_dict()
            for name in ("removed", "values")
        )
    places = zip(values["matrix"], values["index"], values["removed"], strict=True)
    if {(key, index) for key, index, gone in places if gone} != set(
        zip(removed["matrix"], removed["index"], strict=True)
    ):
        raise RuntimeError("its two tables do not name the same removed values")
    model = plain_model(job["base"], job["dtype"])
    for module, *row in zip(*(removed[one] for one in ("module", "reads", "offset", "writes")), strict=True):
        model.get_submodule(module).register_forward_hook(
            _adding(*(torch.tensor(one, dtype=torch.float64) for one in row))
        )
    return {"applied": log_probabilities(model, job["prompts"])}


def _adding(reads: Tensor, offset: Tensor, writes: Tensor) -> Callable[..., Tensor]:
    """A hook that adds what a removed value's row says."""

    def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = (inputs[0].double() @ reads - offset)[..., None] * writes
        return output + added.to(output.dtype)

    return hook


def gguf(job: Job) -> dict[str, Tensor]:
    """llama.cpp's own server, on the CPU with an unrounded cache: what it makes of the token after each beginning."""
    import xllamacpp

    asked = [
        prompt["ids"][: end + 1] for prompt in job["prompts"] for end in range(prompt["first"], len(prompt["ids"]))
    ]
    (path,) = Path(job["folder"]).glob("*.gguf")
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_gpu_layers, settings.warmup, settings.fit_params = str(path), 0, False, False
    settings.n_ctx, settings.n_parallel = max(map(len, asked)) + 8, 1
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(settings)
    fixed = {"n_predict": 1, "temperature": 0, "n_probs": job["vocabulary"], "cache_prompt": False}
    rows = []
    for ids in asked:
        answer = server.handle_completions({"prompt": ids, **fixed})
        answer = json.loads(answer) if isinstance(answer, str | bytes) else answer
        row = torch.full((job["vocabulary"],), float("nan"), dtype=torch.float64)
        for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            row[one["id"]] = one["logprob"]
        rows.append(row)
    return {"llama.cpp": torch.stack(rows)}


CLIENTS: dict[str, Callable[[Job], dict[str, Tensor]]] = {
    "checkpoint": checkpoint, "lora": lora, "hooks": hooks, "dataset": dataset, "gguf": gguf,
}  # fmt: skip


def run(job: Job) -> None:
    """Read an export with its client, and write what it says."""
    found = CLIENTS[job["format"]](job)
    save_file({name: one.contiguous().cpu() for name, one in found.items()}, job["out"])


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
