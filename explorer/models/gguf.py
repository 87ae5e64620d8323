"""GGUF files: dequantised once by transformers, kept as an ordinary safetensors folder."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from explorer.errors import ModelError
from explorer.files import file_digest, write_json
from explorer.progress import Progress, part

_MAGIC = b"GGUF"


def converted(path: Path, models_dir: Path, progress: Progress | None = None) -> Path:
    """Folder of the model in the .gguf file at `path`, converted on first use and found by content afterwards.

    Raises:
        ModelError: no such file, not a GGUF file, damaged, not a causal language model, or no room for the result.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}: check the path of the .gguf file.")
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(
                f"{path} is not a GGUF file (it does not begin with {_MAGIC.decode()}): check the download."
            )
    size, read = path.stat().st_size, 0
    report = part(progress, 0.0, 0.1)

    def count(chunk: int) -> None:
        nonlocal read
        read += chunk
        if report is not None:
            report(read, size)

    name = file_digest(path, count).removeprefix("sha256:")
    folder = models_dir / f"gguf-{name[:16]}"
    convert(path, folder, {"origin": path.name, "revision": f"sha256:{name}"}, part(progress, 0.1, 1.0))
    return folder


def convert(path: Path, folder: Path, record: dict[str, Any], progress: Progress | None = None) -> None:
    """Write the model of a .gguf file to `folder` as safetensors, whole or not at all; does nothing if it is there.

    Args:
        path: the .gguf file.
        folder: where the model goes; appears only when complete.
        progress: told (done, total).
        record: saved beside the weights as `source.json` (origin and revision of the weights).
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            if not (folder / "config.json").is_file():
                _convert(path, folder, record, progress)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{folder.parent} cannot be written ({reason}): set EIGENPRUNE_CACHE elsewhere.") from None


def _convert(path: Path, folder: Path, record: dict[str, Any], progress: Progress | None) -> None:
    for stale in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _write(path, staging, progress)
        write_json(staging / "source.json", record)
        staging.replace(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(path: Path, folder: Path, progress: Progress | None) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (ValueError, KeyError, OSError, RuntimeError, NotImplementedError, TypeError, IndexError) as error:
        logging.getLogger(__name__).debug("GGUF conversion failed", exc_info=True)
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} cannot be converted ({reason}): check that it is a complete causal LM file."
        ) from None
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
