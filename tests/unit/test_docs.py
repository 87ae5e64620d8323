"""The documentation says what the program, its results and its imports say, and every way in it leads somewhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

import explorer
from explorer.actions import REQUESTS
from explorer.actions.request import options_of
from explorer.attribution import SCORERS
from explorer.search import SEARCHES
from explorer.search.controls import CONTROLS
from scripts.docs import notebook, rooms
from scripts.docs.pages import DOCS, PARTS, PICTURES, filled, parts_of
from tests.commands import report, run

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted(DOCS.glob("*.md"))
GENERATED = [path for path in PAGES if parts_of(path.read_text(encoding="utf-8"))]


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_parts_are_what_they_are_made_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert filled(text) == text, "run `make docs`"


def test_every_part_is_on_one_page() -> None:
    shown = Counter(name for path in PAGES for name in parts_of(path.read_text(encoding="utf-8")))
    assert shown == dict.fromkeys(PARTS, 1)
    assert sum(path.read_text(encoding="utf-8").count("<!-- begin ") for path in PAGES) == len(PARTS)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_the_imports_as_they_are(name: str) -> None:
    assert read(name) == PICTURES[name](), "run `make docs`"


def test_imports_between_rooms_are_those_that_the_source_states() -> None:
    """Against a reading of the import statements as text."""
    found = rooms.imports("explorer")
    assert list(found)[-1] == "core"
    assert found["core"] == ()
    for room, others in found.items():
        stated = {
            name.split(".")[1]
            for path in (ROOT / "explorer" / room).rglob("*.py")
            for name in re.findall(r"(?:from|import) (explorer\.\w+)", path.read_text(encoding="utf-8"))
        }
        assert set(others) == stated & set(found) - {room}


def test_the_results_page_shows_what_reproduce_prints() -> None:
    for name in ("bundled", "smollm2"):
        words = ("reproduce", name, "--show", "--out", ROOT / "assets" / "results" / name)
        assert report(*words)["missing"] == 0
        shown = run(*words, "--markdown")
        assert shown.exit_code == 0, shown.stderr
        table = "\n".join(line for line in shown.stdout.splitlines() if line.startswith("|"))
        assert f"\n{table}\n" in read("results.md")


def test_the_page_of_commands_names_every_command_and_option() -> None:
    text = read("commands.md")
    sections = dict(re.findall(r"^### (.+?) \{ #.*?\n(.*?)(?=^### |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    assert sections.keys() == {one.command for one in REQUESTS}
    for request in REQUESTS:
        for option in options_of(request):
            name = option.name.upper() if option.arg.positional else option.word
            assert f"| `{name}` |" in sections[request.command]


def test_tables_of_names_are_complete() -> None:
    assert {name for name in SCORERS if f"`{name}`" not in read("method.md")} == set()
    assert {name for name in SEARCHES if f"`{name}`" not in read("searching.md")} == set()
    assert {name for name in CONTROLS if f"`{name}`" not in read("glossary.md")} == set()
    config = (ROOT / "explorer" / "core" / "config.py").read_text(encoding="utf-8")
    named = set(re.findall(r"EIGENPRUNE_[A-Z_]+", config))
    assert {name for name in named if f"| `{name}` |" not in read("files.md")} == set()
    assert len(named) == 10


def test_the_reference_names_everything_that_is_public() -> None:
    shown = re.findall(r"^::: explorer\.(\w+)$", read("api.md"), flags=re.MULTILINE)
    assert sorted(shown) == sorted(explorer.__all__)


def test_links_lead_to_files_that_are_there() -> None:
    generated = {"hidden-ability.md"}
    for path in (README, *PAGES):
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if not target.startswith(("https://", "http://")) and target not in generated:
                assert (path.parent / target).is_file(), f"{path.name}: {target}"


def settings() -> Any:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_every_page_is_in_the_navigation_and_nothing_is_fetched_from_elsewhere() -> None:
    named = {page for entry in settings()["nav"] for page in entry.values()}
    assert named == {path.name for path in PAGES} | {"hidden-ability.md"}
    assert settings()["theme"]["font"] is False


def test_readme_is_short_and_names_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8 * 1024
    linked = set(re.findall(r"\(docs/([\w-]+\.(?:md|ipynb))", text))
    assert linked == {path.name for path in PAGES} - {"index.md"} | {"hidden-ability.ipynb"}
    for command in ("make app", "make test", "make test-all", ".ci/run", "make docs"):
        assert command in text


def test_the_notebook_becomes_a_page_with_all_its_cells() -> None:
    text = notebook.NOTEBOOK.read_text(encoding="utf-8")
    page = notebook.as_page(text)
    assert len(notebook.code_of(text)) == 10
    for source, said in zip(notebook.code_of(text), notebook.printed(text), strict=True):
        assert f"```python\n{source}\n```" in page
        assert said.rstrip() in page
    for cell in json.loads(text)["cells"]:
        assert cell["cell_type"] == "code" or "".join(cell["source"]) in page


def test_cells_run_in_one_namespace_and_a_failure_is_told() -> None:
    assert notebook.run(["x = 2", "print(x + 1)\nprint('two lines')", "print(x)"]) == ["", "3\ntwo lines\n", "2\n"]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        notebook.run(["x = 0", "1 / x"])


def test_make_docs_writes_first_and_builds_strictly() -> None:
    def lines(target: str) -> list[str]:
        made = subprocess.run(
            ["make", "--no-print-directory", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return made.stdout.splitlines()

    written, built = lines("docs")[-2:]
    assert written.endswith("python -m scripts.docs")
    assert "mkdocs build --strict" in built
    assert built in lines("test-all")
