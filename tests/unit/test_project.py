"""The project's own files: pinned versions, commands, citation and the settings of the local server."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import date
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from streamlit import config as streamlit_config

ROOT = Path(__file__).resolve().parents[2]


def read_toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def direct_requirements() -> list[Requirement]:
    project = read_toml("pyproject.toml")["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [Requirement(line) for line in lines]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    pinned: dict[str, Version] = {}
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not a pin"
        name = canonicalize_name(requirement.name)
        assert name not in pinned, f"{name} is pinned twice"
        pinned[name] = Version(specifier.version)
    return pinned


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda r: r.name)
def test_every_direct_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in pins(), f"{requirement.name} has no pin in constraints.txt"
    assert requirement.specifier.contains(pins()[name])


def test_torch_is_pinned_without_a_build_suffix() -> None:
    assert str(pins()["torch"]) == "2.13.0"
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_console_command_and_the_package_data_are_declared() -> None:
    settings = read_toml("pyproject.toml")
    assert settings["project"]["scripts"] == {"eigenprune": "explorer.cli:main"}
    data = settings["tool"]["setuptools"]["package-data"]["*"]
    suffixes = {path.suffix for path in (ROOT / "explorer").rglob("*.*") if path.is_file()}
    unpacked = {s for s in suffixes - {".py", ".pyc"} if f"*{s}" not in data and s != ".typed"}
    assert not unpacked, f"pyproject.toml does not pack files of explorer/ that end in {sorted(unpacked)}"


def make(*arguments: str) -> str:
    outer = {"PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # set when these tests themselves run under make
    result = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key not in outer},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "target",
    ["app", "bench", "browser", "clean", "docs", "help", "lint", "screenshots", "setup", "test", "typecheck", "unit"],
)
def test_make_help_names_every_target(target: str) -> None:
    assert re.search(rf"^ +make {target} +\S", make("help"), flags=re.MULTILINE)


def test_make_app_serves_on_the_port_that_was_asked_for() -> None:
    assert "streamlit run app.py --server.port 8642" in make("--dry-run", "app", "PORT=8642")
    assert "streamlit run app.py --server.port 8501" in make("--dry-run", "app")


def test_make_test_runs_every_check_and_every_test() -> None:
    commands = make("--dry-run", "test")
    for command in ("ruff check .", "ruff format --check .", "lint-imports", "mypy", "find-chromium.sh"):
        assert command in commands
    assert "python -m pytest" in commands.rstrip().splitlines()[-1]
    folders = read_toml("pyproject.toml")["tool"]["pytest"]["ini_options"]["testpaths"]
    assert folders == ["tests/unit", "tests/integration", "tests/pages", "tests/browser"]
    assert all(any((ROOT / folder).glob("test_*.py")) for folder in folders)


def test_shapes_are_checked_in_the_modules_that_state_them() -> None:
    options = read_toml("pyproject.toml")["tool"]["pytest"]["ini_options"]["addopts"]
    (flag,) = [option for option in options if option.startswith("--jaxtyping-packages=")]
    *checked, checker = flag.removeprefix("--jaxtyping-packages=").split(",")
    assert checker == "beartype.beartype"
    stating = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "explorer").rglob("*.py"))
        if re.search(r"^from jaxtyping import", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    covered = {name: {one for one in stating if f"{one}.".startswith(f"{name}.")} for name in checked}
    assert set(stating) - set().union(*covered.values()) <= {"explorer.models.model", "explorer.models.matrices"}
    assert all(covered.values()), covered  # a name that covers nothing is a name that changed


def test_continuous_integration_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make test-all"


def test_find_chromium_refuses_a_program_that_does_not_exist() -> None:
    result = subprocess.run(
        [ROOT / "scripts" / "find-chromium.sh"],
        env=os.environ | {"CHROMIUM": "/no/such/chromium"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "CHROMIUM='/no/such/chromium' is not a program" in result.stderr


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = read_toml("pyproject.toml")["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    (paper,) = citation["references"]
    assert paper["title"] == "Eigenpruning: an Interpretability-Inspired PEFT Method"
    assert paper["url"] == "https://arxiv.org/abs/2404.03147"
    assert [author["family-names"] for author in paper["authors"]] == ["Vergara-Browne", "Soto", "Aizawa"]
    assert paper["year"] == 2024


def test_readme_gives_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("make app", "make test", "pip install -e .", "streamlit run app.py"):
        assert command in readme


def test_the_changelog_is_cut_into_releases_and_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = [line for line in changelog.splitlines() if line.startswith("## ")]
    found = [re.fullmatch(r"## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", line) for line in releases]
    assert all(found), releases
    versions, days = [Version(one[1]) for one in found if one], [date.fromisoformat(one[2]) for one in found if one]
    assert str(versions[0]) == read_toml("pyproject.toml")["project"]["version"]
    assert str(versions[-1]) == "0.1.0"
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def test_the_server_settings_are_known_to_streamlit_and_stay_local() -> None:
    settings = flatten(read_toml(".streamlit/config.toml"))
    known = streamlit_config.get_config_options()
    assert not [name for name in settings if name not in known]
    assert settings["server.address"] == "127.0.0.1"
    assert settings["server.allowedHosts"] == ["localhost", "127.0.0.1"]
    assert settings["browser.gatherUsageStats"] is False
    assert not [name for name in settings if name in ("server.enableCORS", "server.enableXsrfProtection")]


PATCHES = ("setattr", "delattr", "setitem", "delitem")


def words_of(node: ast.AST) -> Iterator[str]:
    """All names in an expression, those in its texts among them."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield from one.value.split(".")
        elif isinstance(one, (ast.Name, ast.Attribute)):
            yield one.id if isinstance(one, ast.Name) else one.attr


def private_patches(source: str) -> list[str]:
    """The calls of pytest's `monkeypatch` (or of `setattr`) that change a name which begins with an underscore.

    The underscore may stand anywhere on the way: in the module's path, in the object, in the name itself. Where the
    name is a variable, whatever text or keyword of the file begins with an underscore may be meant.
    """
    if not any(f"{name}(" in source for name in PATCHES):
        return []
    nodes = list(ast.walk(ast.parse(source)))
    texts = {one.value for one in nodes if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    keywords = {one.arg for one in nodes if isinstance(one, ast.keyword) and one.arg}
    variable = {one for one in texts | keywords if one.isidentifier()}
    found = []
    for call in (one for one in nodes if isinstance(one, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {**dict(enumerate(call.args)), **{one.arg: one.value for one in call.keywords}}
        target = given.get(0, given.get("target", given.get("dic")))
        if name not in PATCHES or target is None:
            continue
        words = set(words_of(target))
        if not isinstance(target, ast.Constant) and (what := given.get(1, given.get("name"))) is not None:
            words |= set(words_of(what)) if isinstance(what, ast.Constant) else variable
        if any(word.startswith("_") for word in words):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('monkeypatch.setattr(module, "_name", 1)', 1),
        ('monkeypatch.setattr("package.module._name", 1)', 1),
        ('patch.setattr("package._module.name", 1)', 1),
        ('patch.setattr(package._module, "name", 1)', 1),
        ('patch.setattr(import_module("package._module"), "name", 1)', 1),
        ('patch.setattr(module.function, "__defaults__", ())', 1),
        ('patch.delattr(target=module, name="_name")', 1),
        ('patch.setitem(module._TABLE, "key", 1)', 1),
        ('patch.setitem(sys.modules, "package._module", None)', 1),
        ('for name in ("public", "_private"):\n    patch.setattr(module, name, 1)', 1),
        ("change(_NAME=1)\npatch.setattr(module, name, 1)", 1),
        ('setattr(module, "_name", 1)', 1),
        ('monkeypatch.setattr(module, "name", module._other)', 0),
        ('monkeypatch.setattr("package.module.name", _own)', 0),
        ('for name in ("public", "other"):\n    patch.setattr(module, name, 1)', 0),
        ('monkeypatch.setitem(TABLE, "key", 1)\nmonkeypatch.setenv("_NAME", "1")', 0),
    ],
)
def test_patches_of_private_names_are_recognised(source: str, count: int) -> None:
    assert len(private_patches(source)) == count


def test_tests_patch_hardly_any_private_name() -> None:
    """Two of other packages: what AppTest's selectbox sends, and how TransformerLens scales attention."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}, {one}" for path in files for one in private_patches(path.read_text("utf-8"))]
    assert len(found) <= 2, "\n".join(found)


def test_a_public_class_name_stands_for_one_class() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "explorer").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


MOST_LINES, MOST_PARAMETERS, MOST_POSITIONAL = 60, 8, 3


def test_functions_are_short_and_take_few_parameters() -> None:
    """Constructors aside: a frozen value has as many fields as it needs."""
    found = []
    for path in sorted((ROOT / "explorer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(one.arg not in ("self", "cls") for one in parameters)
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES or count > MOST_PARAMETERS:
                    found.append(f"{path.relative_to(ROOT)}: {node.name} ({lines} lines, {count} parameters)")
    assert found == []


def test_calls_name_their_arguments_from_the_fourth_on() -> None:
    """Of functions of this package: those of Python and of libraries take what they take, as torch's functions with a
    gradient of their own and threads that are handed what to call.
    """
    ours = {
        node.name
        for path in (ROOT / "explorer").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    found = []
    for path in sorted((ROOT / "explorer").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and sum(not isinstance(one, ast.Starred) for one in node.args) > MOST_POSITIONAL
            ):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
                if name in ours and ast.unparse(node.func) not in (
                    "_Edit.apply",
                    "beside.submit",
                    "super().redirect_request",
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert found == []


def test_no_module_imports_itself_around_a_corner() -> None:
    graph = grimp.build_graph("explorer", exclude_type_checking_imports=False)
    sorter = TopologicalSorter({one: graph.find_modules_directly_imported_by(one) for one in graph.modules})
    sorter.prepare()  # raises CycleError, which names the circle
