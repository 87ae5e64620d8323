"""Requests as a Jupyter notebook that can be run again: what each does, its Python, and what that printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import getdoc
from typing import Any

from explorer.actions.request import ALONE, Request, Streaming, Tools
from explorer.core.errors import SettingsError


@dataclass(frozen=True)
class NotebookStep:
    """A cell of a notebook.

    Attributes:
        heading: what it is about, in a line.
        request: what its code asks for.
        printed: what the code prints; None if it has not been run.
    """

    heading: str
    request: Request
    printed: str | None = None


def printed(request: Request, tools: Tools = ALONE) -> str:
    """What a request's program prints.

    Raises:
        ExplorerError: as the request.
    """
    if isinstance(request, Streaming):
        return "".join(f"{row.as_json_line()}\n" for row in request.rows(tools))
    return f"{request.run(tools).as_json()}\n"


def check_notebooks() -> None:
    """Raise SettingsError unless notebooks can be written."""
    if find_spec("nbformat") is None:
        raise SettingsError("nbformat is not installed: run `pip install 'eigenprune-explorer[notebook]'`.")


def notebook(title: str, about: Sequence[str], steps: Sequence[NotebookStep], files: Mapping[str, str]) -> str:
    """The text of an .ipynb file.

    Args:
        title: its heading.
        about: paragraphs below, in markdown.
        steps: its cells.
        files: text of the files that the cells read, by name; the first cell writes them where they are not there.

    Raises:
        SettingsError: nbformat is not installed.
    """
    check_notebooks()
    import nbformat

    v4 = _format()
    made = v4.new_notebook()
    made.metadata["language_info"] = {"name": "python"}
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [v4.new_markdown_cell("\n\n".join([f"# {_plain(title)}", *about]))]
    if files:
        cells.append(v4.new_markdown_cell("The files that the cells below read."))
        cells.append(_code(_writing(files), "", 1))
    for step in steps:
        what = (getdoc(type(step.request)) or "").partition("\n")[0]
        cells.append(v4.new_markdown_cell(f"## {_plain(step.heading)}\n\n{what}"))
        number = 1 + sum(cell.cell_type == "code" for cell in cells)
        cells.append(_code(step.request.as_python(), step.printed, number))
    made.cells = cells
    for place, cell in enumerate(cells):  # the same steps give the same file
        cell["id"] = f"cell-{place}"
    nbformat.validate(made)
    text: str = v4.writes(made)
    return f"{text}\n"


def _format() -> Any:
    """The functions that make cells, which have no types."""
    from nbformat import v4

    return v4


def _code(source: str, said: str | None, number: int) -> Any:
    v4 = _format()
    outputs = [v4.new_output("stream", name="stdout", text=said)] if said else []
    return v4.new_code_cell(source, outputs=outputs, execution_count=None if said is None else number)


def _writing(files: Mapping[str, str]) -> str:
    lines = [f"    {name!r}: {text!r}," for name, text in files.items()]
    return "\n".join(
        [
            "from pathlib import Path", "", "for name, text in {", *lines, "}.items():",
            "    if not Path(name).exists():", '        Path(name).write_text(text, encoding="utf-8")',
        ]
    )  # fmt: skip


def _plain(text: str) -> str:
    """Text in one line that is no markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#$" else letter for letter in " ".join(text.split()))
