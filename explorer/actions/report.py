"""`report`: show the report of a search again, or make its page or a table for a paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.bundle import write_bundle
from explorer.actions.choices import CasesChoice, FramingChoice, ModelChoice, TaskChoice, refuse_unwritable
from explorer.actions.evaluate import Evaluate
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError
from explorer.tasks.template import as_typed

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

    bundle: Annotated[
        Path | None,
        Arg("New folder with the page, the mask, the report and how to measure it again, for people without Python."),
    ] = None
    force: Annotated[bool, Arg("Replace the bundle that is in the folder.")] = False

    def run(self, tools: Tools = ALONE) -> ReportResult:
        """Read it, and write its page.

        Raises:
            SettingsError: it cannot be read, or a file cannot be written.
        """
        from explorer.search.report_file import load_report

        found = load_report(self.path)
        if self.bundle is not None:
            write_bundle(self.bundle, report_files(found), force=self.force)
        if self.html is not None:
            write_page(found, self.html)
        if self.latex is not None:
            from explorer.plots.search_latex import search_latex

            _write(self.latex, search_latex(found))
        return ReportResult(found)


def report_files(report: SearchFile) -> dict[str, str]:
    """The files of a bundle of a search, by name."""
    from explorer.plots.html import code_html, links_html
    from explorer.plots.search_page import search_page

    mask, data = "mask.json", "report.json"
    lines = [ShowReport(path=Path(data)).as_command(), _again(report, Path(mask)).as_command()]
    after = f"<h2>The same again</h2>{code_html(lines)}<h2>Files</h2>{links_html([mask, data])}"
    return {"index.html": search_page(report, after), mask: report.mask.to_json(), data: report.to_json()}


def _again(report: SearchFile, mask: Path) -> Evaluate:
    """The command that measures the mask on the test split again."""
    choice = TaskChoice(
        task=report.task, shots=report.shots or 0, seed=report.seed,
        template=None if report.template is None else as_typed(report.template),
        which=CasesChoice(splits=report.splits, hold_out=report.hold_out, wordings=report.wordings, only=report.only),
        around=FramingChoice(report.bos, report.chat, report.system),
    )  # fmt: skip
    return Evaluate(model=ModelChoice(report.model), task=choice, mask=mask, limit=report.test_limit)


def refuse_report(folder: Path) -> None:
    """Raise SettingsError if a report could not be written into a folder."""
    for name in ("report.json", PAGE):
        refuse_unwritable(folder / name)


def write_report(report: SearchFile, folder: Path) -> None:
    """Write a report into a folder, as a file to read again and as a page."""
    report.save(folder)
    write_page(report, folder / PAGE)


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
