"""`push`: an exported folder to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError


@dataclass(frozen=True)
class PushResult(Result):
    """What of a folder is on the hub, or would be.

    Attributes:
        repo: the repository; `url` is where it is, `commit` what holds the files; both null in a dry run.
        private: whether the repository is private.
        dry_run: whether nothing was uploaded.
        format: `checkpoint`, `lora`, ...
        size: bytes of all files; `files` has those of each.
        left_out: what is in the folder and was not written by the export.
        kept: what is in the repository beside.
        notes: what else is to be known, in sentences.
        card: the README as uploaded.
    """

    repo: str
    url: str | None
    commit: str | None
    private: bool
    dry_run: bool
    format: str
    mask_digest: str
    size: int
    files: Mapping[str, int]
    left_out: Sequence[str]
    kept: Sequence[str]
    notes: Sequence[str]
    card: str


@dataclass(frozen=True, kw_only=True)
class PushExport(Request):
    """Upload a folder that `export` made to the Hugging Face hub, with its README as the model card.

    Only what the export wrote goes there, as it wrote it; you may add to the README, such as a license. The repository
    is made if it is not there, private unless --public is given. The token is that of `hf auth login` or HF_TOKEN.

    Example: `eigenprune push pruned your-name/pruned --dry-run`
    """

    command: ClassVar[str] = "push"

    folder: Annotated[Path, Arg("Folder that `export` made.", positional=True)]
    repo: Annotated[str, Arg("Repository of the hub: OWNER/NAME.", positional=True)]
    private: Annotated[bool, Arg("Only you see the repository; --public: everybody does.", off="public")] = True
    dry_run: Annotated[bool, Arg("Only show what would be uploaded; reaches no network.")] = False
    message: Annotated[str | None, Arg("Message of the commit.")] = None

    def run(self, tools: Tools = ALONE) -> PushResult:
        """Upload it.

        Raises:
            SettingsError: an empty message.
            ExportError: no export, one whose files were changed, or a hub that cannot be reached or refuses it.
        """
        from explorer.export import FORMATS
        from explorer.export.push import packed, sent

        if self.message is not None and not self.message.strip():
            raise SettingsError("--message is empty: give a text, or leave it out.")
        parcel = packed(self.folder, self.repo, FORMATS)
        message = self.message or f"Eigenpruned: {parcel.sort} of mask {parcel.mask_digest[:15]}"
        delivery = None
        if not self.dry_run:
            with tools.working(f"Uploading to {self.repo}"):
                delivery = sent(parcel, private=self.private, message=message)
        private = self.private if delivery is None else delivery.private
        notes = []
        if not parcel.licensed:
            notes.append("README.md names no license: add `license:` to its header, as the base model's asks.")
        if private and not self.private:
            notes.append("The repository was private and stays so: its settings on the hub change that.")
        return PushResult(
            repo=self.repo,
            url=None if delivery is None else delivery.url,
            commit=None if delivery is None else delivery.commit,
            private=private,
            dry_run=self.dry_run,
            format=parcel.sort,
            mask_digest=parcel.mask_digest,
            size=sum(parcel.files.values()),
            files=parcel.files,
            left_out=parcel.left_out,
            kept=() if delivery is None else delivery.kept,
            notes=notes,
            card=parcel.card,
        )


def push(
    folder: Path | str, repo: str, *, private: bool = True, dry_run: bool = False, message: str | None = None
) -> PushResult:
    """Upload a folder that an export made to the Hugging Face hub; see `PushExport`.

    Args:
        folder: made by `LoadedModel.export` or `eigenprune export`.
        repo: the repository, `owner/name`; made if it is not there.
        private: whether only its owner may see it.
        dry_run: only say what would be uploaded; reaches no network.
        message: of the commit.

    Raises:
        ExportError, SettingsError: as `PushExport.run`.
    """
    return PushExport(folder=Path(folder), repo=repo, private=private, dry_run=dry_run, message=message).run()
