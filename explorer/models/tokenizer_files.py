"""The tokenizer of a model's folder, as transformers reads it, refused where that is not what its files say.

transformers chooses a class by config.json and tokenizer_config.json. Where these do not fit the tokenizer's own file,
the class reads text in its own way or makes up special tokens, without a word; both are found here.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from explorer.models.files import read_object, require_ordinary
from explorer.models.hub import reason
from explorer.models.sources import Source

CONFIG, WHOLE = "tokenizer_config.json", "tokenizer.json"
_VOCABULARIES = (WHOLE, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_NAMING = (CONFIG, "special_tokens_map.json", "added_tokens.json")
_AS_IT_STANDS = ("TokenizersBackend", "PreTrainedTokenizerFast")  # classes that mean tokenizer.json itself
_PROBE = 64  # tokens whose words are read back


def read_tokenizer(source: Source) -> Any:
    """The Hugging Face tokenizer of a model.

    Raises:
        ModelError: it is missing, broken, of a class that reads text otherwise than its files, or made up.
    """
    from transformers import AutoTokenizer

    _check_files(source)
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(source.folder), **options)
        tokenizer = _as_declared(source, tokenizer, options)
        special, size = set(tokenizer.all_special_ids), len(tokenizer)
        made_up = _made_up(source.folder, tokenizer)
    except ModelError:
        raise
    except Exception as error:  # the tokenizer library raises plain Exceptions
        logging.getLogger(__name__).debug("loading a tokenizer failed", exc_info=True)
        raise ModelError(
            f"{source.name} cannot be read (its tokenizer: {reason(error)}): check {CONFIG} and {WHOLE}."
        ) from None
    if size <= len(special):  # transformers makes up an empty one without a word
        raise ModelError(f"{source.name} has no tokenizer in {source.folder}: save the tokenizer there too.")
    if made_up:
        raise ModelError(
            f"{source.name} has no usable {CONFIG}: its tokenizer was read as a {type(tokenizer).__name__}, which adds "
            f"{made_up[0][:40]!r}, a token that none of its files names; get {CONFIG} again."
        )
    return tokenizer


def _check_files(source: Source) -> None:
    present = [source.folder / name for name in (*_VOCABULARIES, *_NAMING) if _there(source.folder / name)]
    for path in present:
        require_ordinary(source.name, path)
    if not any(path.name in _VOCABULARIES for path in present):
        raise ModelError(f"{source.name} has no tokenizer in {source.folder}: save the tokenizer there too.")
    for name in (WHOLE, *_NAMING):
        if _there(source.folder / name):
            _check_class(source, read_object(source.name, source.folder / name), name)


def _check_class(source: Source, said: dict[str, Any], file: str) -> None:
    named = said.get("tokenizer_class") if file == CONFIG else None
    if named is not None and not isinstance(named, str):
        raise ModelError(f"{source.name} has a {CONFIG} whose tokenizer_class is {str(named)[:40]}: expected a name.")


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _as_declared(source: Source, tokenizer: Any, options: dict[str, Any]) -> Any:
    """The tokenizer, or tokenizer.json as it stands where that is declared and the chosen class reads no text."""
    from transformers import PreTrainedTokenizerFast

    if not (source.folder / WHOLE).is_file():
        return tokenizer
    text = _probe(source.folder / WHOLE)
    if not text or tokenizer(text, add_special_tokens=False)["input_ids"]:
        return tokenizer
    path = source.folder / CONFIG
    declared = read_object(source.name, path).get("tokenizer_class") if path.is_file() else None
    if declared not in _AS_IT_STANDS:
        raise ModelError(
            f"{source.name} has a tokenizer that cannot be read as a {type(tokenizer).__name__}, which makes no tokens "
            f"of {text[:20]!r}: check tokenizer_class in {CONFIG}."
        )
    return PreTrainedTokenizerFast.from_pretrained(str(source.folder), **options)


def _probe(path: Path) -> str:
    """A text of which tokenizer.json makes tokens; empty if there is none."""
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(path))
    words = own.decode(list(range(min(_PROBE, own.get_vocab_size()))), skip_special_tokens=True).strip()
    return next((text for text in (words, "a", "1 + 1") if text and own.encode(text, add_special_tokens=False).ids), "")


def _made_up(folder: Path, tokenizer: Any) -> list[str]:
    """Special tokens that no file of the folder names."""
    named = "\n".join(
        json.dumps(json.loads((folder / name).read_text(encoding="utf-8")), ensure_ascii=False)
        for name in (*_NAMING, "vocab.json")
        if (folder / name).is_file()
    )
    if (folder / WHOLE).is_file():
        from tokenizers import Tokenizer

        known = Tokenizer.from_file(str(folder / WHOLE)).get_vocab(with_added_tokens=True)
    elif (folder / "vocab.json").is_file():
        known = {}
    else:
        return []
    tokens = sorted(map(str, tokenizer.all_special_tokens))
    return [token for token in tokens if token not in known and json.dumps(token, ensure_ascii=False) not in named]
