"""`report`: show the report of a search again, or make its page again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explorer.cli import options
from explorer.cli.console import say, show_json
from explorer.cli.search_report import show_report
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.search.report_file import SearchFile

PAGE = "report.html"


def report(
    path: Annotated[Path, typer.Argument(help="The report.json that `search --report` wrote, or its folder.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="HTML page to write; a file that is there is replaced.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show the report of a search again, without a model.

    Keys of --json: format, schema_version, those of `search` except out and report, and mask.

    Example: `eigenprune report found/ --html found.html`
    """
    from explorer.search.report_file import load_report

    found = load_report(path)
    if html is not None:
        write_page(found, html)
    if json:
        return show_json(found.model_dump(mode="json"))
    show_report(found)
    if html is not None:
        say(f"Page: {html}")


def write_page(report: SearchFile, path: Path) -> None:
    """Write the HTML page of a report.

    Raises:
        SettingsError: the place cannot be written.
    """
    from explorer.core.files import write_text
    from explorer.plots.search_page import search_page

    try:
        write_text(path, search_page(report))
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
