"""The wheel, installed where nothing of the checkout is: it holds all that the app and the commands read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
from playwright.sync_api import Page, expect

from tests import checkout
from tests.browser.app import SECONDS, settle
from tests.browser.conftest import open_app

pytestmark = pytest.mark.browser

CARRIED = "explorer/_files/"
MULT = ("--model", "bundled", "--task", "int-mult")


@dataclass(frozen=True)
class Installed:
    """An environment with the package, and an empty folder to work in."""

    bin: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str) -> str:
        """What a command of it prints."""
        command = [str(self.bin / words[0]), *words[1:]]
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout to build in, with the left-overs of an earlier build."""
    copy = checkout.copied(tmp_path_factory.mktemp("source") / "checkout")
    left = copy / "build" / "lib" / "explorer" / "left_over.py"
    left.parent.mkdir(parents=True)
    left.write_text("", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel of the checkout."""
    return built(source)


def built(source: Path) -> Path:
    """A wheel, made without asking any package index."""
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, check=True, timeout=200)
    (path,) = source.glob("*.whl")
    return path


def names(wheel: Path) -> list[str]:
    return ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone in an environment of its own; only then what it depends on is taken from this one."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root / "venv", with_pip=False, symlinks=True)
    python = root / "venv" / "bin" / "python"
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENPRUNE_", "PYTHON"))}
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    # Where the checkout is installed for development, pip must not take it for what is asked.
    subprocess.run([*pip, "--force-reinstall", str(wheel)], check=True, timeout=200, cwd=root, env=outer)
    site = sysconfig.get_path("purelib", vars={"base": str(root / "venv")})
    Path(site, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    folder = root / "empty"
    folder.mkdir()
    own = {f"EIGENPRUNE_{name}": str(root / name.lower()) for name in ("CACHE", "WORKSPACE")}
    environment = {**outer, **own, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return Installed(python.parent, folder, environment)


# ----------------------------------------------------------------------------------------------- what is in it


def test_the_wheel_holds_what_app_and_commands_read(source: Path, wheel: Path) -> None:
    held = {name.removeprefix(CARRIED) for name in names(wheel) if name.startswith(CARRIED)}
    wanted = {"app.py", ".streamlit/config.toml", "assets/icon.svg", "assets/mask.schema.json"}
    for place in ("pages/*.py", "assets/recipes/*/*.toml", "assets/bundled/*", "assets/masks/*", "assets/text/*"):
        found = {path.relative_to(source).as_posix() for path in source.glob(place)}
        assert found, place
        wanted |= found
    assert held == wanted
    for name in held:
        assert ZipFile(wheel).read(f"{CARRIED}{name}") == (source / name).read_bytes(), name


def test_the_wheel_holds_all_of_the_package_and_nothing_else(source: Path, wheel: Path) -> None:
    code = {path.relative_to(source).as_posix() for path in (source / "explorer").rglob("*.*")}
    others = {name for name in names(wheel) if not name.startswith(CARRIED)}
    assert {name for name in others if name.startswith("explorer/")} == code
    (about,) = {name.split("/")[0] for name in others - code}
    assert about == f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    assert wheel.stat().st_size < 6e6  # the bundled model is 3 MB of it


def test_a_source_distribution_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    make = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", make], cwd=source, capture_output=True, text=True, check=True, timeout=200
    )
    archive = tmp_path / done.stdout.splitlines()[-1]
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(tmp_path)], check=True, timeout=60)
    assert sorted(names(built(tmp_path / archive.name.removesuffix(".tar.gz")))) == sorted(names(wheel))


# ---------------------------------------------------------------------------------------------- what it can do


def test_the_installed_package_is_another_one_than_the_checkout(installed: Installed) -> None:
    say = "import explorer; print(explorer.__file__); print(explorer.__version__)"
    path, version = installed.run("python", "-c", say).splitlines()
    assert Path(path).is_relative_to(installed.bin.parent)
    assert f'\nversion = "{version}"\n' in (checkout.ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_eval_measures_the_bundled_model_from_an_empty_folder(installed: Installed) -> None:
    assert not list(installed.folder.iterdir())
    found = json.loads(installed.run("eigenprune", "eval", *MULT, "--splits", "published", "--json"))
    figures = json.loads((checkout.ROOT / "assets" / "bundled" / "figures.json").read_text(encoding="utf-8"))
    shipped = figures["after"]["INT-MULT"]["test"]
    assert (found["n"], round(found["accuracy"], 2)) == (shipped["n"], shipped["accuracy"])
    assert found["loss"] == pytest.approx(shipped["loss"], abs=5e-5)
    assert not list(installed.folder.iterdir())


def test_the_suites_of_recipes_come_along(installed: Installed) -> None:
    known = json.loads(installed.run("eigenprune", "reproduce", "--json"))
    assert sorted(one["name"] for one in known["suites"]) == ["bundled", "paper", "smollm2"]


@pytest.fixture
def url(installed: Installed) -> Iterator[str]:
    """Where `eigenprune app` serves, on a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = installed.folder.parent / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [installed.bin / "eigenprune", "app", "--port", str(port)], cwd=installed.folder,
            env=installed.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert "Traceback" not in log.read_text(encoding="utf-8")


def wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 100
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"no answer at {url}: {log.read_text(encoding='utf-8')}")


def test_app_shows_the_bundled_model_from_an_empty_folder(installed: Installed, url: str, page: Page) -> None:
    for path, heading in (("", "Eigenpruning"), ("/prune", "Prune")):
        open_app(page, url + path)
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=SECONDS)
        settle(page)
        expect(page.locator("[data-testid=stSidebar]").get_by_text("0 removed")).to_be_visible()
    expect(page.locator(".st-key-metric-accuracy [data-testid=stMetricValue]")).to_have_text("0.0 %", timeout=SECONDS)
    settings = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).fontSize")
    assert settings == "14px"  # the settings of the server are the app's own, though it was started elsewhere
    assert not list(installed.folder.iterdir())
