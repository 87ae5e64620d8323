"""`push` for people."""

from __future__ import annotations

from explorer.actions.push import PushExport, PushResult
from explorer.cli.console import say, show_table


def show(request: PushExport, result: PushResult) -> None:
    """Print what is, or would be, on the hub."""
    seen = "private" if result.private else "public"
    title = f"{'Would upload' if result.dry_run else 'Uploaded'} to {result.repo} ({seen})"
    show_table(title, ("file", "MB"), [(name, f"{size / 1e6:,.3f}") for name, size in result.files.items()])
    if result.left_out:
        say(f"Left out, not written by the export: {', '.join(result.left_out)}")
    if result.kept:
        say(f"In the repository beside it: {', '.join(result.kept)}")
    for note in result.notes:
        say(note)
    if result.dry_run:
        say(f"Model card:\n\n{result.card}")
        say("Nothing was uploaded: leave out --dry-run for that.")
    else:
        say(f"{result.url}: commit {result.commit}, {result.size / 1e6:,.1f} MB")
