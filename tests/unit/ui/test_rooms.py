"""Who may touch what in the interface: session state, the times of painting, and the names of pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
UI = ROOT / "explorer" / "ui"
FILES = [*sorted(UI.rglob("*.py")), *sorted((ROOT / "pages").glob("*.py")), ROOT / "app.py"]
PAGES = {path.stem for path in (ROOT / "pages").glob("*.py")}


def nodes(*, without: Path) -> Iterator[tuple[str, ast.AST]]:
    """All nodes of the interface's files but one file's or folder's, each with where it stands."""
    for path in FILES:
        if path != without and without not in path.parents:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_session_state_is_touched_in_one_room_only() -> None:
    internals = UI / "streamlit_internals" / "runs.py"  # empties all that Streamlit holds, whatever it is called
    found = [
        where
        for where, node in nodes(without=UI / "session" / "state.py")
        if (isinstance(node, ast.Attribute) and node.attr == "session_state")
        or (isinstance(node, ast.Name) and node.id == "session_state")
        or (isinstance(node, ast.Constant) and node.value == "session_state")
    ]
    assert not [where for where in found if not where.startswith(str(internals.relative_to(ROOT)))]


def test_one_module_says_when_what_is_painted() -> None:
    found = []
    for where, node in nodes(without=UI / "components" / "painting.py"):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rsplit(".", 1)[-1]
        if name == "sleep":
            found.append(f"{where}: {name}")
        numbers = [one for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, int | float)]
        if name in ("Wait", "wait", "pause", "mount") and numbers:
            found.append(f"{where}: {name}")
        for one in node.keywords:
            if one.arg in ("run_every", "look", "seconds") and isinstance(one.value, ast.Constant) and one.value.value:
                found.append(f"{where}: {one.arg}")
            if one.arg == "run_every" and not ast.unparse(one.value).startswith("painting."):
                found.append(f"{where}: {one.arg}")
    assert not found


def test_no_page_is_known_by_name_outside_its_package() -> None:
    found = []
    for where, node in nodes(without=UI / "table.py"):
        own = {part for part in re.split(r"[/.:]", where) if part in PAGES}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.findall(r"\bpages/(\w+)\.py", node.value)
        elif isinstance(node, ast.ImportFrom):
            path = [node.module or "", *(one.name for one in node.names)]
            named = [name for name in PAGES if f"{'.'.join(path)}.".startswith(f"explorer.ui.{name}.")]
        else:
            continue
        found += [f"{where}: {name}" for name in named if name not in own]
    assert not found


def test_every_script_of_pages_draws_a_page_of_the_table() -> None:
    from explorer.ui.table import PAGES as TABLE

    assert {page.script for page in TABLE} == {f"pages/{name}.py" for name in PAGES}
    assert len({page.title for page in TABLE}) == len(TABLE)
    shown = [page.shows for page in TABLE if page.shows]
    assert sorted(shown) == ["direction", "example", "mask", "matrix", "search"]  # other pages go to these
