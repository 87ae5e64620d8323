"""A static folder that shows a search without Python, from disk or any web server, and reaches nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from explorer.core.errors import SettingsError
from explorer.core.files import new_folder, replaceable

MARK = "eigenprune-bundle.txt"
_ABOUT = "Made by eigenprune-explorer: open index.html. It needs no Python and reaches no network.\n"


def check_bundle(out: Path, *, force: bool) -> Path | None:
    """The bundle at `out` that may be replaced; None if nothing is there.

    Raises:
        SettingsError: something is there that must stay.
    """

    def written() -> list[str]:
        return (out / MARK).read_text(encoding="utf-8", errors="replace").splitlines()[1:]

    return replaceable(
        out, "a bundle", SettingsError, mark=MARK, option="--bundle", force=force, written=written
    )  # fmt: skip


def write_bundle(out: Path, files: Mapping[str, str], *, force: bool) -> None:
    """Write the folder whole, or not at all.

    Args:
        out: the new folder.
        files: texts by name, `index.html` among them.
        force: replace a bundle that is there.

    Raises:
        SettingsError: it is taken, or cannot be written.
    """
    replaced = check_bundle(out, force=force)
    try:
        with new_folder(out, replaced=replaced) as folder:
            for name, text in {**files, MARK: _ABOUT + "".join(f"{name}\n" for name in files)}.items():
                (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{out} cannot be written ({error.strerror}): choose another place.") from None
