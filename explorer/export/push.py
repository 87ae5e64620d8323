"""Exported folders on the Hugging Face hub: what an export wrote, as it wrote it, and nothing else of the folder.

`packed` reads the folder and reaches no network; `sent` makes the repository, private unless asked otherwise, and adds
everything in one commit. The token is the hub client's own: it is neither read nor kept here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from explorer.core.errors import ExplorerError, ExportError
from explorer.core.files import file_digest
from explorer.export.base import Format
from explorer.export.card import README
from explorer.export.run import RECORD
from explorer.models.hub import reason

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LARGEST_TEXT = 10_000_000  # bytes of a README or a record
# What a repository may hold beside an export without being another model's.
_BYSTANDERS = re.compile(r"\.gitattributes|\.gitignore|README\.md|LICENSE.*", re.IGNORECASE)
_QUOTA = re.compile(r"storage|quota|exceeded|too large", re.IGNORECASE)


@dataclass(frozen=True)
class Parcel:
    """What goes to the hub of an exported folder.

    Attributes:
        folder: the exported folder.
        repo: the repository, such as `name/model`.
        sort: the format's name.
        repo_type: `model`, or `dataset` for a format of tables.
        files: sizes in bytes by name, as uploaded.
        left_out: names of what else is in the folder.
        card: the README as uploaded, whose loading lines name the repository.
        mask_digest: of the mask that was exported.
        licensed: whether the README's header names a license.
    """

    folder: Path
    repo: str
    sort: str
    repo_type: str
    files: Mapping[str, int]
    left_out: tuple[str, ...]
    card: str
    mask_digest: str
    licensed: bool


@dataclass(frozen=True)
class Delivery:
    """What the hub has taken.

    Attributes:
        url: of the repository.
        commit: that holds the files.
        private: whether the repository is private.
        kept: names of what else is in the repository.
    """

    url: str
    commit: str
    private: bool
    kept: tuple[str, ...]


def packed(folder: Path, repo: str, forms: Mapping[str, Format]) -> Parcel:
    """What of a folder goes to the hub; reaches no network.

    Args:
        folder: made by an export.
        repo: such as `name/model`.
        forms: the formats.

    Raises:
        ExportError: no name of a repository, no export, or one whose files are not as they were written.
    """
    _check_repo(repo)
    record = _record(folder, forms)
    there = sorted(folder.iterdir())
    own = {one.name: one for one in there if one.is_file() and not one.is_symlink()}
    for name, digest in record["files"].items():
        if name not in own:
            raise ExportError(f"{folder} lacks {name[:80]!r}, which the export wrote: export it again.")
        if file_digest(own[name]) != digest:
            raise ExportError(f"{folder / name} is not as the export wrote it: export it again.")
    if README not in own:
        raise ExportError(f"{folder} lacks {README}, which the export wrote: export it again.")
    stamped, form = record["eigenprune"], forms[record["format"]]
    text = _text(own[README])
    header = _header(own[README], text)
    which = "onto" if "onto_model" in stamped else "base"
    base = (stamped[f"{which}_model"], stamped.get(f"{which}_revision"))
    text = text.replace(form.loading(*base), form.loading(*base, repo=repo))
    names = {*record["files"], README, RECORD}
    sizes = {name: own[name].stat().st_size for name in sorted(names)}
    return Parcel(
        folder,
        repo,
        record["format"],
        repo_type="dataset" if form.tables else "model",
        files={**sizes, README: len(text.encode())},
        left_out=tuple(one.name + "/" * one.is_dir() for one in there if one.name not in names),
        card=text,
        mask_digest=stamped["mask_digest"],
        licensed=bool(header.get("license")),
    )


def sent(parcel: Parcel, *, private: bool, message: str, api: HfApi | None = None) -> Delivery:
    """Upload a parcel in one commit; a repository that is not there is made.

    Args:
        parcel: what to upload.
        private: whether only its owner may see the repository.
        message: of the commit.
        api: the hub's client; by default that of this machine's settings.

    Raises:
        ExportError: no token, a repository of somebody else or of another model, a public one where a private one is
            meant, no network, or a refusal of the hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    hub = HfApi(library_name="eigenprune") if api is None else api
    try:
        _check_owner(hub.whoami(), parcel.repo)
        hub.create_repo(parcel.repo, private=private, exist_ok=True, repo_type=parcel.repo_type)
        found: Any = hub.repo_info(parcel.repo, repo_type=parcel.repo_type)
        kept = _kept(bool(found.private), [one.rfilename for one in found.siblings or ()], parcel, private=private)
        operations = [
            CommitOperationAdd(name, parcel.card.encode() if name == README else parcel.folder / name)
            for name in parcel.files
        ]
        commit = hub.create_commit(parcel.repo, operations, commit_message=message, repo_type=parcel.repo_type)
    except ExplorerError:
        raise
    except Exception as error:  # the hub's client fails with its own types, those of its HTTP library among them
        raise ExportError(_why(error, parcel.repo)) from None
    place = f"datasets/{parcel.repo}" if parcel.repo_type == "dataset" else parcel.repo
    return Delivery(f"{hub.endpoint}/{place}", commit.oid, bool(found.private), kept=kept)


def _check_repo(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        repo = repo.replace("/", " ")
    if repo.count("/") != 1:
        raise ExportError(f"{repo[:80]!r} is no name of a repository: give OWNER/NAME, such as your-name/pruned-model.")


def _record(folder: Path, forms: Mapping[str, Format]) -> dict[str, Any]:
    """The record of an export, with all that is needed of it."""
    path = folder / RECORD
    if not path.is_file() or path.is_symlink():
        raise ExportError(f"{folder} is no export (no {RECORD} in it): make one with `eigenprune export`.")
    try:
        record = json.loads(_text(path))
        stamped, files = record["eigenprune"], record.get("files")
        texts = [stamped["base_model"], stamped["mask_digest"], record["format"], stamped["base_revision"] or ""]
        texts += [stamped.get("onto_model", ""), stamped.get("onto_revision") or ""]
        known = all(isinstance(one, str) for one in texts) and record["format"] in forms
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known, files = False, None
    if not known:
        raise ExportError(f"{path} is not the record of an export: export it again.")
    if not isinstance(files, dict) or not all(isinstance(one, str) for one in files.values()):
        raise ExportError(f"{path} is of an earlier version, which listed no files: export it again.")
    whole: dict[str, Any] = record
    return whole


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise ExportError(f"{path} is too large for what it should be: export it again.")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} cannot be read ({reason(error)}): export it again.") from None


def _header(path: Path, text: str) -> Mapping[str, Any]:
    """The YAML in front of a README."""
    lines = text.splitlines()
    end = lines.index("---", 1) if lines[:1] == ["---"] and "---" in lines[1:] else 0
    try:
        found = yaml.safe_load("\n".join(lines[1:end])) if end else None
    except yaml.YAMLError as error:
        raise ExportError(f"the header of {path} is no YAML ({reason(error)}): mend it.") from None
    if not isinstance(found, dict):
        raise ExportError(f"{path} does not begin with a header of YAML between two lines `---`: put one there.")
    return found


def _check_owner(me: Mapping[str, Any], repo: str) -> None:
    mine = [str(me.get("name", "")), *(str(one.get("name", "")) for one in me.get("orgs") or ())]
    owner, name = repo.split("/")
    if owner.lower() not in (one.lower() for one in mine):
        raise ExportError(
            f"{owner} is neither you nor an organization of yours on the hub: give {mine[0]}/{name}, or log in as "
            f"{owner} with `hf auth login`."
        )


def _kept(hidden: bool, names: Sequence[str], parcel: Parcel, *, private: bool) -> tuple[str, ...]:
    """What stays in a repository of these files beside the upload; refuses repositories that are not meant."""
    if private and not hidden:
        raise ExportError(f"{parcel.repo} is there and is public: give --public, or another repository.")
    foreign = [name for name in names if not _BYSTANDERS.fullmatch(name)]
    if foreign and RECORD not in names:
        raise ExportError(
            f"{parcel.repo} is there and holds other things than an export ({foreign[0][:80]}): give another one."
        )
    return tuple(name for name in names if name not in parcel.files and name != ".gitattributes")


def _why(error: BaseException, repo: str) -> str:
    """A failure of the hub's client as a sentence."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    while isinstance(error, RuntimeError) and error.__cause__ is not None:  # around the upload of a large file
        error = error.__cause__
    if isinstance(error, LocalTokenNotFoundError):
        return "this machine has no token of the hub: log in with `hf auth login`, or set HF_TOKEN."
    if isinstance(error, OfflineModeIsEnabled):
        return "the hub is switched off by HF_HUB_OFFLINE: unset it."
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return _refusal(error.response.status_code, _last_line(error.server_message or ""), repo)
    said = _last_line(str(error))
    if "Invalid metadata in README.md" in str(error):
        return f"the hub does not take the header of README.md ({said}): mend it."
    if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
        return f"the hub cannot be reached, or the upload broke off ({said}): try again; {repo} stays as it was."
    return f"{repo} could not be uploaded ({said}): it stays as it was."


def _refusal(status: int, said: str, repo: str) -> str:
    if status == 401:
        return "the hub does not know the token of this machine: log in anew with `hf auth login`, or set HF_TOKEN."
    if status in (402, 413, 507) or (status == 403 and _QUOTA.search(said)):
        return f"the hub has no room left for {repo} ({said}): remove something there, or get more storage."
    if status in (403, 404):
        return f"the hub does not let you write to {repo} ({status}): give one of yours, or a token that may write."
    if status == 429:
        return "the hub has had too many requests from you (429): try again later."
    if status in (409, 412):
        return f"{repo} was changed by somebody else meanwhile ({status}): try again."
    return f"the hub refuses {repo} ({status}: {said}): try again later."


def _last_line(text: str) -> str:
    """What a server says stands last in the messages of the hub's client."""
    return (text.strip().splitlines() or ["no reason given"])[-1].strip().rstrip(".:")[:160]
