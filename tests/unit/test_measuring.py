"""What is kept on disk is found again after a change to a plot or a report, and not after one to what measures."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import explorer
from explorer.core.measuring import CARRIERS, CONTEXTS, EFFECTS, SEARCHES, code_digest, sources

ROOT = Path(explorer.__file__).parent
ROOMS = {"effects": EFFECTS, "searches": (*EFFECTS, *SEARCHES)}
NOTHING = ["plots/style.py", "plots/search.py", "plots/search_page.py", "search/report.py", "search/report_file.py"]
BOTH = ["attribution/exact.py", "models/bridge.py", "measure/residuals.py", "measure/metrics.py", "models/matrices.py"]
SEARCH_ONLY = ["attribution/gradient.py", "search/verified.py", "search/problem.py", "measure/evaluate.py"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("code") / "explorer"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize("name", [*NOTHING, *BOTH, *SEARCH_ONLY])
def test_only_what_measures_counts(copy: Path, name: str) -> None:
    before = {what: code_digest(rooms, copy) for what, rooms in ROOMS.items()}
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n# changed\n")
    after = {what: code_digest(rooms, copy) for what, rooms in ROOMS.items()}
    path.write_bytes(content)
    changed = {what for what in ROOMS if before[what] != after[what]}
    assert changed == ({"effects", "searches"} if name in BOTH else {"searches"} if name in SEARCH_ONLY else set())


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("explorer"):
            module = (node.module or "").removeprefix("explorer").removeprefix(".")
            names |= {module, *(f"{module}.{one.name}".removeprefix(".") for one in node.names)}
    return {name for name in names if name in known and name}


def reachable(start: str) -> set[Path]:
    """Files of everything that a module imports, directly or not."""
    known, seen, todo = modules(), set[str](), [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imported(known[name], known)
    return {known[name] for name in seen}


@pytest.mark.parametrize(
    ("start", "what"), [("attribution.exact", "effects"), ("search", "searches"), ("measure.contexts", "contexts")]
)
def test_every_module_that_is_imported_is_said_to_measure_or_to_carry(start: str, what: str) -> None:
    known = {*sources({**ROOMS, "contexts": (*EFFECTS, *CONTEXTS)}[what]), *sources(CARRIERS)}
    missing = sorted(str(path.relative_to(ROOT)) for path in reachable(start) - known)
    assert not missing, f"put {missing} into a list of explorer.core.measuring: does it decide what is measured?"


def test_the_lists_name_what_is_there_once() -> None:
    assert all(sources((room,)) for room in (*EFFECTS, *SEARCHES, *CONTEXTS, *CARRIERS))
    assert not {*sources((*EFFECTS, *SEARCHES))} & {*sources(CARRIERS)}
    assert {path.name for path in sources(SEARCHES) if path.parent.name == "attribution"} >= {"gradient.py", "sums.py"}
