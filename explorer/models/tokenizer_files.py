"""The tokenizer of a model's folder, as transformers reads it, refused where that is not what its files say.

transformers chooses a class by config.json and tokenizer_config.json. Where these do not fit the tokenizer's own file,
the class reads text in its own way or makes up special tokens, without a word; both are found here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from explorer.core.errors import ModelError
from explorer.models.files import read_object, require_ordinary
from explorer.models.hub import reason
from explorer.models.sources import Source

CONFIG, WHOLE, _PAIRS = "tokenizer_config.json", "tokenizer.json", "vocab.json"
_VOCABULARIES = (WHOLE, "tokenizer.model", _PAIRS, "vocab.txt", "spiece.model", "tekken.json")
_NAMING = (CONFIG, "special_tokens_map.json", "added_tokens.json")
_AS_IT_STANDS = ("TokenizersBackend", "PreTrainedTokenizerFast")  # classes that mean tokenizer.json itself
_PROBE = 64  # tokens whose words are read back
_RARE = ("\U0001f9ff", "\U00010348")  # letters that only a tokenizer of bytes knows


def read_tokenizer(source: Source) -> Any:
    """The Hugging Face tokenizer of a model.

    Raises:
        ModelError: it is missing, broken, of a class that reads text otherwise than its files, or made up.
    """
    from transformers import AutoTokenizer

    said = _read_files(source)
    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(source.folder), **options)
        tokenizer = _as_declared(source, tokenizer, said, options=options)
        special, size = set(tokenizer.all_special_ids), len(tokenizer)
        made_up = _made_up(said, tokenizer)
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
        _check_unread(source, tokenizer, said, made_up=made_up)
    return tokenizer


def _check_unread(source: Source, tokenizer: Any, said: dict[str, dict[str, Any]], made_up: list[str]) -> None:
    """Refuse tokens that transformers' class makes up, unless the files name a class and no text is read as them.

    transformers has its own class for some families (Qwen 2), whatever tokenizer_config.json names, with an unknown and
    a padding token that the files need not have; these stand beside the vocabulary and change nothing.
    """
    declared = said.get(CONFIG, {}).get("tokenizer_class")
    ids = set(tokenizer.convert_tokens_to_ids(made_up))
    try:
        unread = ids.isdisjoint(token for text in (*_RARE, _probe(tokenizer)) for token in _ids(tokenizer, text))
    except Exception:  # the tokenizer library raises plain Exceptions where it misses the unknown token
        unread = False
    if declared and tokenizer.bos_token not in made_up and unread:
        return
    what = f"a {CONFIG} that does not fit its tokenizer" if declared else f"no usable {CONFIG}"
    help_ = f"check tokenizer_class in {CONFIG}" if declared else f"get {CONFIG} again"
    raise ModelError(
        f"{source.name} has {what}: its tokenizer was read as a {type(tokenizer).__name__}, which adds "
        f"{made_up[0][:40]!r}, a token that none of its files names; {help_}."
    )


def _read_files(source: Source) -> dict[str, dict[str, Any]]:
    """What the tokenizer's JSON files say, by their names; every file is an ordinary one."""
    names = [name for name in (*_VOCABULARIES, *_NAMING) if _there(source.folder / name)]
    for name in names:
        require_ordinary(source.name, source.folder / name)
    if not set(names) & set(_VOCABULARIES):
        raise ModelError(f"{source.name} has no tokenizer in {source.folder}: save the tokenizer there too.")
    said = {name: read_object(source.name, source.folder / name) for name in names if name in (WHOLE, *_NAMING, _PAIRS)}
    named = said.get(CONFIG, {}).get("tokenizer_class")
    if named is not None and not isinstance(named, str):
        raise ModelError(f"{source.name} has a {CONFIG} whose tokenizer_class is {str(named)[:40]}: expected a name.")
    return said


def _there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _as_declared(source: Source, tokenizer: Any, said: dict[str, dict[str, Any]], options: dict[str, Any]) -> Any:
    """The tokenizer, or tokenizer.json as it stands where that is declared and the chosen class reads no text."""
    from transformers import PreTrainedTokenizerFast

    if WHOLE not in said or _ids(tokenizer, text := _probe(tokenizer)):
        return tokenizer
    whole = PreTrainedTokenizerFast.from_pretrained(str(source.folder), **options)
    if not _ids(whole, text):
        return tokenizer
    if said.get(CONFIG, {}).get("tokenizer_class") not in _AS_IT_STANDS:
        raise ModelError(
            f"{source.name} has a tokenizer that cannot be read as a {type(tokenizer).__name__}, which makes no tokens "
            f"of {text[:20]!r}: check tokenizer_class in {CONFIG}."
        )
    return whole


def _probe(tokenizer: Any) -> str:
    """Some of its own words."""
    words: str = tokenizer.decode(list(range(min(_PROBE, len(tokenizer)))), skip_special_tokens=True)
    return words.strip() or "a"


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _made_up(said: dict[str, dict[str, Any]], tokenizer: Any) -> list[str]:
    """Special tokens that no file of the folder names."""
    if WHOLE not in said and _PAIRS not in said:  # the vocabulary is in a format of its own
        return []
    named = _texts([said[name] for name in said if name != WHOLE])
    model, added = said.get(WHOLE, {}).get("model"), said.get(WHOLE, {}).get("added_tokens")
    named |= _texts(added) | _texts(model.get("vocab") if isinstance(model, dict) else None)
    return sorted(token for token in map(str, tokenizer.all_special_tokens) if token not in named)


def _texts(value: Any) -> set[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        return {value}
    found: set[str] = set()
    if isinstance(value, dict):
        found.update(value)
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        if isinstance(inner, str | dict | list):
            found |= _texts(inner)
    return found
