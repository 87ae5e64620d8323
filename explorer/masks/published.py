"""Masks that others have published: a file of a repository on the Hugging Face hub, or one by its address.

    hf:OWNER/NAME[@REVISION][/FILE]     FILE is `mask.json` if it is not given: what exported folders hold
    https://...                         http only from this machine itself

What arrives is read as any mask file is: it is JSON, checked against the schema, and nothing in it is run. Its size is
known, or counted, before it is taken.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from explorer.core.errors import MaskError

USUAL = "mask.json"
SECONDS = 30.0
_OURS = ("localhost", "127.0.0.1", "::1")
_WEB = re.compile(r"(https?):/+(.+)")  # a path has one slash where an address has two
_HUB = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+?))?(/(?P<file>[\w./ -]+\.json))?")


def is_published(path: Path | str) -> bool:
    """Whether this is not the path of a file, but where somebody has published one."""
    return str(path).startswith(("hf:", "https:/", "http:/"))


def fetched(path: Path | str, limit: int) -> bytes:
    """The published file.

    Args:
        path: where it is.
        limit: the most bytes that it may have.

    Raises:
        MaskError: nothing there, no network, an address that is not safe, or a larger file.
    """
    text = str(path)
    web = _WEB.fullmatch(text)
    return _from_hub(text, limit) if web is None else _from_web(f"{web[1]}://{web[2]}", limit)


def _from_hub(text: str, limit: int) -> bytes:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    found = _HUB.fullmatch(text)
    if found is None:
        raise MaskError(
            f"{text[:120]!r} is no file of the hub: give hf:OWNER/NAME, hf:OWNER/NAME@REVISION or .../FILE.json."
        )
    name = found["file"] or USUAL
    where: dict[str, Any] = {"repo_id": found["repo"], "filename": name, "revision": found["revision"]}
    try:
        about: Any = hf_hub_download(**where, etag_timeout=SECONDS, dry_run=True)
        if about.file_size > limit:
            raise _too_large(text, about.file_size, limit)
        return Path(str(hf_hub_download(**where, etag_timeout=SECONDS))).read_bytes()
    except MaskError:
        raise
    except LocalEntryNotFoundError:
        why = "the hub cannot be reached, and it is not in its cache here"
    except EntryNotFoundError:
        why = f"{found['repo']} has no {name}"
    except RepositoryNotFoundError:
        why = "there is no such repository, or it is private: log in with `hf auth login` if it is yours"
    except Exception as error:  # the hub's client fails with its own types, those of its HTTP library among them
        why = _first_line(error)
    raise MaskError(f"{text[:160]} cannot be had ({why}): check the name, or give the file itself.")


class _SafeRedirects(HTTPRedirectHandler):
    def redirect_request(self, *answer: Any) -> Any:
        """Follow to addresses alone that could have been given; the last of `answer` is where it leads."""
        _check_address(str(answer[-1]))
        return super().redirect_request(*answer)


def _from_web(address: str, limit: int) -> bytes:
    _check_address(address)
    try:
        asked = Request(address, headers={"User-Agent": "eigenprune", "Accept": "application/json"})
        with build_opener(_SafeRedirects).open(asked, timeout=SECONDS) as answer:
            found: bytes = answer.read(limit + 1)
    except HTTPError as error:
        raise MaskError(f"{address[:160]} cannot be had (status {error.code}): check the address.") from None
    except (URLError, OSError, ValueError) as error:
        raise MaskError(f"{address[:160]} cannot be had ({_first_line(error)}): check address and network.") from None
    if len(found) > limit:
        raise _too_large(address, None, limit)
    return found


def _check_address(address: str) -> None:
    """Raise MaskError unless nobody between here and there can change what is sent."""
    parts = urlsplit(address)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _OURS):
        raise MaskError(f"{address[:160]} is no https address: masks are fetched over https only; download the file.")


def _too_large(text: str, size: int | None, limit: int) -> MaskError:
    have = "has more bytes than that" if size is None else f"has {size:,}"
    return MaskError(f"mask files have at most {limit:,} bytes, {text[:160]} {have}: is it another file?")


def _first_line(error: BaseException) -> str:
    said = getattr(error, "reason", None) or error
    return (str(said).strip().splitlines() or [type(error).__name__])[0][:160]
