"""The words of the tiny models as a SentencePiece vocabulary, which llama.cpp's converter takes."""

from __future__ import annotations

from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as pieces

from tests import tiny


def save(folder: Path) -> Path:
    """A tiny Llama in a folder, with a vocabulary in both forms."""
    tiny.save("llama", folder)
    model = pieces.ModelProto()
    kinds = {"<bos>": 3, "<unk>": 2}  # control, unknown
    for word in tiny.WORDS:
        model.pieces.add(piece=word if word in kinds else f"▁{word}", score=0.0, type=kinds.get(word, 1))
    model.trainer_spec.bos_id = model.trainer_spec.eos_id = tiny.IDS["<bos>"]
    model.trainer_spec.unk_id, model.trainer_spec.pad_id = tiny.IDS["<unk>"], -1
    model.trainer_spec.model_type = pieces.TrainerSpec.BPE
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    return folder
