"""Fixtures for tests in a real browser: a Streamlit server, Chromium, a page that reports script errors."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, sync_playwright

from tests.browser import subjects
from tests.browser.subjects import Subject

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET_FLAGS = (  # keep the browser from calling home
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
BAD_LOG = re.compile(
    r"Traceback \(most recent call last\)|deprecat|will be removed|Uncaught app ex|created with a default value",
    re.IGNORECASE,
)
HARMLESS = (
    "Failed to load resource",  # deep links: 404s
    "Client Error in reaching server endpoint",  # a page looks for a server that is being started again
    "Streamlit server is not responding",
)

NewPage = Callable[..., Page]


def find_chromium() -> str:
    """Path of a Chromium: ``$CHROMIUM``, else the first known name on PATH."""
    named = os.environ.get("CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if found is None:
        pytest.fail(
            f"No Chromium found (CHROMIUM={named!r}, PATH names {', '.join(CHROMIUM_NAMES)}): install one, e.g. "
            "`apt-get install chromium`, or set CHROMIUM to its path. Browser tests are never skipped.",
            pytrace=False,
        )
    return found


def launch(playwright: Playwright) -> Browser:
    """A headless Chromium that stays quiet."""
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return playwright.chromium.launch(executable_path=find_chromium(), headless=True, args=[*QUIET_FLAGS, *root])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


def watch(page: Page) -> list[str]:
    """A list that fills with the page's uncaught errors and with requests to other hosts."""
    errors: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(harmless in message.text for harmless in HARMLESS):
            errors.append(message.text)

    def on_request(url: str) -> None:
        if not re.match(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:", url):
            errors.append(f"request to another host: {url}")

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", on_console)
    page.on("request", lambda request: on_request(request.url))
    page.on("websocket", lambda socket: on_request(socket.url))
    return errors


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """``new_page(**context options) -> page`` in a context of its own; the test fails on what `watch` finds."""
    opened: list[tuple[BrowserContext, list[str]]] = []

    def make(**options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        opened.append((context, watch(page)))
        return page

    yield make
    for context, _ in opened:
        context.close()
    errors = [error for _, found in opened for error in found]
    assert not errors, errors


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A fresh page; the test fails if the page raised an uncaught error or asked another host for anything."""
    return new_page()


class StartServer:
    """``start(script, env=None, args=(), port=None) -> url`` starts a server and waits for ``/_stcore/health``."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        self._logs: list[Path] = []

    def __call__(
        self,
        script: str | Path,
        env: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (),
        port: int | None = None,
    ) -> str:
        port = port or _free_port()
        log = self._folder() / "server.log"
        command = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
        command += ["--server.headless=true", "--server.fileWatcherType=none", "--server.address=127.0.0.1"]
        command += ["--browser.gatherUsageStats=false", *args]
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=ROOT, env=_environment(env), stdout=out, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        self._running[url] = process, log
        self._logs.append(log)
        _wait_for_health(url, process, log)
        return url

    def stop(self, url: str, timeout: float = 10) -> bool:
        """Stop one server; False if it had to be killed."""
        process, _ = self._running.pop(url)
        process.terminate()
        try:
            process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True

    def stop_all(self) -> None:
        """Stop what still runs; no log may hold a traceback or a deprecation line."""
        for url in list(self._running):
            self.stop(url)
        texts = [log.read_text() for log in self._logs]
        bad = [line for text in texts for line in text.splitlines() if BAD_LOG.search(line)]
        assert not bad, "\n".join([*bad, "full log:", *texts])


@pytest.fixture(scope="module")
def streamlit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Servers that are stopped and whose logs are checked at the end."""
    start = StartServer(lambda: tmp_path_factory.mktemp("streamlit"))
    yield start
    start.stop_all()


def open_app(page: Page, url: str, timeout: float = 60_000) -> None:
    """Go to ``url`` and wait until the script has run."""
    page.goto(url)
    wait_until_idle(page, timeout)


def wait_until_idle(page: Page, timeout: float = 60_000) -> None:
    """Wait until the page is connected and no script runs."""
    page.wait_for_selector(
        "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]",
        timeout=timeout,
    )


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **(extra or {})}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"streamlit ended with {process.returncode}:\n{log.read_text()}", pytrace=False)
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"streamlit did not answer within {START_SECONDS} s:\n{log.read_text()}", pytrace=False)


@pytest.fixture(params=["usual", "own"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """A model and a task: those that the app opens with, and a user's own in the module's folder (`root`)."""
    return subjects.usual() if request.param == "usual" else subjects.own(request.getfixturevalue("root"))
