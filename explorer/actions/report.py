"""`report`: show the report of a search again, or make its page or a table for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.search.report_file import SearchFile

PAGE = "report.html"


@dataclass(frozen=True)
class ReportResult(Result):
    """A report as it is in its file."""

    file: SearchFile

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        return self.file.as_dict()


@dataclass(frozen=True, kw_only=True)
class ShowReport(Request):
    """Show the report of a search again, without a model.

    Keys of --json: format, schema_version, those of `search` except out and report, and mask.

    Example: `eigenprune report found/ --html found.html`
    """

    command: ClassVar[str] = "report"

    path: Annotated[Path, Arg("The report.json that `search --report` wrote, or its folder.", positional=True)]
    html: Annotated[Path | None, Arg("HTML page to write; a file that is there is replaced.")] = None

    latex: Annotated[
        Path | None, Arg("LaTeX table to write (booktabs), with every setting in its caption; likewise.")
    ] = None

    def run(self, tools: Tools = ALONE) -> ReportResult:
        """Read it, and write its page.

        Raises:
            SettingsError: it cannot be read, or a file cannot be written.
        """
        from explorer.search.report_file import load_report

        found = load_report(self.path)
        if self.html is not None:
            write_page(found, self.html)
        if self.latex is not None:
            from explorer.plots.search_latex import search_latex

            _write(self.latex, search_latex(found))
        return ReportResult(found)


def write_page(report: SearchFile, path: Path) -> None:
    """Write the HTML page of a report.

    Raises:
        SettingsError: the place cannot be written.
    """
    from explorer.plots.search_page import search_page

    _write(path, search_page(report))


def _write(path: Path, text: str) -> None:
    from explorer.core.files import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
