"""GGUF files: dequantised once by transformers, kept as an ordinary safetensors folder."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from explorer.core.errors import ModelError
from explorer.core.files import file_digest
from explorer.core.progress import Progress, part
from explorer.models.conversions import made_once
from explorer.models.gguf_header import MAGIC, check_header, check_magic
from explorer.models.hub import reason

_ALONE = "model.gguf"


def is_gguf(path: Path) -> bool:
    """Whether a path means a GGUF file: by its name, in capitals or not, or by how the file begins."""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") if path.is_file() else nullcontext() as stream:
            return stream is not None and stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def converted(path: Path, models_dir: Path, progress: Progress | None = None) -> Path:
    """Folder of the model in the .gguf file at `path`, converted on first use and found by content afterwards.

    Raises:
        ModelError: no such file, not a GGUF file, damaged, not a causal language model, or no room for the result.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}: check the path of the .gguf file.")
    try:
        check_magic(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): check the path of the .gguf file.") from None
    size, read = path.stat().st_size, 0
    report = part(progress, 0.0, 0.1)

    def count(chunk: int) -> None:
        nonlocal read
        read += chunk
        if report is not None:
            report(read, size)

    name = file_digest(path, count).removeprefix("sha256:")
    folder = models_dir / f"gguf-{name[:16]}"
    convert(path, folder, {"origin": path.name, "revision": f"sha256:{name}"}, progress=part(progress, 0.1, 1.0))
    return folder


def convert(path: Path, folder: Path, record: dict[str, Any], progress: Progress | None = None) -> None:
    """Write the model of a .gguf file to `folder` as safetensors, whole or not at all; does nothing if it is there.

    Args:
        path: the .gguf file.
        folder: where the model goes; appears only when complete.
        progress: told (done, total).
        record: saved beside the weights as `source.json` (origin and revision of the weights).
    """
    made_once(folder, record, lambda staging: _write(path, staging, progress))


def _write(path: Path, folder: Path, progress: Progress | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sizes = check_header(path)
    model: Any
    found: Any
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(folder), "gguf_file": _ALONE}
    alone = folder / _ALONE  # in a folder of its own: nothing that lies beside the file is read with it
    alone.symlink_to(path.resolve())
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, output_loading_info=True)
        model, found = loaded
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:  # readers of metadata fail in their own ways on what they do not expect
        logging.getLogger(__name__).debug("GGUF conversion failed", exc_info=True)
        raise ModelError(
            f"{path} cannot be converted ({reason(error)}): check that it is a complete causal LM file."
        ) from None
    finally:
        alone.unlink()
    _check_used(path, sizes, model, report=found)
    if progress is not None:
        progress(60, 100)
    # transformers refuses to save a model that it believes quantised, so its tensors move to one that is not.
    config = model.config
    del config.quantization_config
    with torch.device("meta"):
        plain: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if progress is not None:
        progress(100, 100)


def _check_used(path: Path, sizes: dict[str, int], model: Any, report: Any) -> None:
    """Refuse a file whose tensors are not all of the model's, or more than them; the library drops these silently.

    Args:
        path: the file.
        sizes: how many numbers each of its tensors holds.
        model: what was made of it.
        report: what the library says of missing and unexpected weights.
    """
    untied = "output.weight" in sizes
    placed = sum(weight.numel() for _, weight in model.named_parameters(remove_duplicate=not untied))
    wrong = ""
    if report["missing_keys"]:
        wrong = f"it lacks weights, such as {min(map(str, report['missing_keys']))[:80]}"
    elif report["unexpected_keys"]:
        wrong = f"it holds unknown weights, such as {min(map(str, report['unexpected_keys']))[:80]}"
    elif sum(sizes.values()) > placed:
        wrong = f"it holds weights that transformers leaves out{_left_out(sizes, model)}"
    if wrong:
        raise ModelError(f"{path} cannot be converted ({wrong}): check that it is a complete causal LM file.")


def _left_out(sizes: dict[str, int], model: Any) -> str:
    """One of the tensors for which the model has no place, if it can be named."""
    import gguf

    architecture = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == model.config.model_type), None)
    if architecture is None:
        return ""
    known = gguf.get_tensor_name_map(architecture, int(model.config.num_hidden_layers))
    placed = {known.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()}
    return next((f", such as {name[:80]}" for name in sizes if name not in placed), "")
