"""`report` for people."""

from __future__ import annotations

from explorer.actions.report import ReportResult, ShowReport
from explorer.cli.console import say
from explorer.cli.search_report import show_report


def show(request: ShowReport, result: ReportResult) -> None:
    """Print the report, and where its page is."""
    show_report(result.file)
    if request.html is not None:
        say(f"Page: {request.html}")
    if request.latex is not None:
        say(f"Table: {request.latex}")
    if request.bundle is not None:
        say(f"Bundle: {request.bundle}/index.html")
