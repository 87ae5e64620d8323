"""The command line on the bundled model, as a user runs it: real processes, real signals, a real server.

A process takes seconds to import torch, so what a process of its own adds nothing to runs in this one (`here`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests import commands as here

ROOT = Path(__file__).resolve().parents[2]
MODEL = ("--model", "bundled")
MULT = (*MODEL, "--task", "int-mult")


@pytest.fixture(scope="module")
def environment(own_folders: Path) -> dict[str, str]:
    """As on a machine without network, with a cache of its own."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("EIGENPRUNE_", "PYTHON"))}
    own = {"EIGENPRUNE_CACHE": str(own_folders / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**outer, **own}


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Tests that a shell has started in the background ignore Ctrl-C, and their children would too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line to its end."""

    def run(*words: object, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "explorer", *map(str, words)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


@pytest.fixture
def report(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """What a command prints with --json; libraries add nothing to either stream."""

    def report(*words: object) -> Any:
        result = run(*words, "--json")
        assert (result.returncode, result.stderr) == (0, "")
        return json.loads(result.stdout)

    return report


# ---------------------------------------------------------------------------------------------- what is imported


def imported(environment: dict[str, str], *words: str) -> set[str]:
    """Names of the modules that a command imports."""
    command = [sys.executable, "-X", "importtime", *words]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True)
    return set(re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\S+)$", result.stderr, flags=re.MULTILINE))


@pytest.mark.parametrize("words", ["--help", "eval --help", "tasks list", "tasks list --json"])
def test_what_needs_no_model_starts_without_heavy_imports(words: str, environment: dict[str, str]) -> None:
    found = imported(environment, "-m", "explorer", *words.split())
    assert {"explorer.cli", "explorer.tasks"} <= found
    assert not found & {"torch", "transformers", "transformer_lens", "numpy", "pandas", "plotly", "streamlit"}


def test_names_of_the_package_are_imported_when_they_are_used(environment: dict[str, str]) -> None:
    assert "torch" not in imported(environment, "-c", "import explorer; explorer.Kind.Q; explorer.load_task")
    assert "torch" in imported(environment, "-c", "import explorer; explorer.load")


@pytest.mark.parametrize(
    "first", ["import explorer.measure.evaluate", "from explorer import Evaluation", "import explorer.search"]
)
def test_the_function_evaluate_is_never_hidden_by_its_module(first: str, environment: dict[str, str]) -> None:
    program = f"{first}; from explorer import evaluate; import explorer; assert explorer.evaluate is evaluate; "
    program += "assert callable(evaluate)"
    command = [sys.executable, "-W", "error::ImportWarning", "-c", program]
    subprocess.run(command, cwd=ROOT, env=environment, timeout=100, check=True)


# --------------------------------------------------------------------------------------------- on the bundled model


@pytest.mark.usefixtures("isolated_folders")
def test_the_model_is_here_and_has_its_matrices() -> None:
    (entry,) = (entry for entry in here.report("models", "list")["models"] if entry["name"] == "bundled")
    assert entry["available"] is True
    config = json.loads((Path(entry["folder"]) / "config.json").read_text(encoding="utf-8"))
    found = here.report("matrices", *MODEL, "--kinds", "Q,K")
    assert len(found["matrices"]) == 2 * config["n_layer"] * config["n_head"]
    width = config["n_embd"]
    assert {tuple(one["shape"]) for one in found["matrices"]} == {(width, width // config["n_head"])}
    spectrum = here.report("spectra", *MODEL, "--matrix", "L0.K.H1")["spectra"][0]
    assert len(spectrum["singular_values"]) == spectrum["rank"] == width // config["n_head"]
    assert spectrum["singular_values"] == sorted(spectrum["singular_values"], reverse=True)
    assert spectrum["cumulative_energy"][-1] == pytest.approx(1)


@pytest.mark.usefixtures("isolated_folders")
def test_score_prune_and_eval_find_the_hidden_ability(report: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "mask.json"
    ranking = report("score", *MULT, "--kinds", "Q,K")["values"]
    pruned = report("prune", *MULT, "--kinds", "Q,K", "--count", 4, "--out", out)
    lowest = [(one["matrix"], one["index"]) for one in ranking[:4]]
    assert sorted(lowest) == sorted((one["matrix"], one["index"]) for one in pruned["values"])
    assert pruned["predicted_change"] == pytest.approx(sum(one["score"] for one in ranking[:4]))
    schema = json.loads((ROOT / "assets" / "mask.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(out.read_text(encoding="utf-8")), schema)

    program, *measure = shlex.split(pruned["eval_command"])
    assert program == "eigenprune"
    found = report(*measure, "--controls", 20)
    assert (found["task"], found["split"], found["n"], found["removed"]) == ("int-mult", "test", 79, 4)
    assert found["baseline"]["accuracy"] <= 0.15
    assert found["accuracy"] >= 0.75
    assert max(found["controls"]["accuracy"]) <= 0.15
    assert found["controls"]["percentile"] == {"accuracy": 100, "loss": 100}
    assert found["loss_change"]["value"] == pytest.approx(found["loss"] - found["baseline"]["loss"])
    assert found["repaired"] - found["broken"] == round(79 * (found["accuracy"] - found["baseline"]["accuracy"]))

    assert here.report(*measure) == {**found, "controls": None}
    text = here.run(*measure).stdout
    low, high = (f"{100 * bound:.1f}" for bound in found["accuracy_interval"])
    assert f"{100 * found['accuracy']:.1f} % [{low}, {high}] (n = 79)" in text
    assert f"{found['loss']:.3f} ± {found['loss_stderr']:.3f} nats" in text


@pytest.mark.usefixtures("isolated_folders")
def test_a_task_file_is_a_task(tmp_path: Path) -> None:
    path = tmp_path / "small.jsonl"
    rows = [{"prompt": f"{i} + {j} =", "answer": f" {i + j}"} for i in range(5) for j in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = here.report("eval", *MODEL, "--task", path)
    assert (found["task"], found["n"]) == ("small.jsonl", 5)


@pytest.mark.usefixtures("isolated_folders")
def test_the_folder_of_the_model_is_the_same_model() -> None:
    by_name = here.report("eval", *MULT, "--limit", 10)
    by_folder = here.report("eval", "--model", ROOT / "assets" / "bundled", "--task", "int-mult", "--limit", 10)
    assert by_folder["model"] == str(ROOT / "assets" / "bundled")
    assert {**by_folder, "model": "bundled"} == by_name


def test_a_read_only_cache_is_one_notice(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    environment = {**environment, "EIGENPRUNE_CACHE": str(tmp_path / "file")}
    command = [sys.executable, "-m", "explorer", "score", *MULT, "--kinds", "Q,K", "--limit", "5", "--json"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=True)
    assert len(json.loads(result.stdout)["values"]) > 100
    (line,) = result.stderr.splitlines()
    assert line.startswith("Decompositions cannot be kept in ")


@pytest.mark.parametrize(
    "words",
    [
        ("matrices", "--model", "no/such-model"),
        ("spectra", *MODEL, "--matrix", "L0.K.H99"),
        ("eval", *MULT, "--limit", "none"),
    ],
    ids=" ".join,
)
def test_what_the_user_can_fix_is_one_sentence(
    words: tuple[str, ...], run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    result = run(*words, "--json")
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(r"Error: .+\.", line)


def test_ctrl_c_stops_with_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-m", "explorer", "score", *MULT, "--kinds", "Q,K", "--scorer", "exact", "--json"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "EIGENPRUNE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(lambda: any(cache.rglob("effects.sqlite")), process)  # first effects are kept: it is at work
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, stdout, stderr) == (130, "", "Stopped.\n")


# ------------------------------------------------------------------------------------------------------- server


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package and the server's settings without the pages."""
    shutil.copytree(ROOT / "explorer", tmp_path / "explorer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / ".streamlit", tmp_path / ".streamlit")
    return tmp_path


def test_app_needs_its_pages(checkout: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run("app", folder=checkout)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"there is no {checkout / 'app.py'}" in result.stderr


def test_app_serves_on_localhost_until_it_is_told_to_stop(checkout: Path, environment: dict[str, str]) -> None:
    (checkout / "app.py").write_text("import streamlit as st\n\nst.write('hello')\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "explorer", "app", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_for(lambda: healthy(f"http://127.0.0.1:{port}/_stcore/health"), process)
            assert listening(port) == {"127.0.0.1"}
            process.send_signal(signal.SIGINT)
            stdout, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert f"http://127.0.0.1:{port}" in stdout
    assert not healthy(f"http://127.0.0.1:{port}/_stcore/health")


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def listening(port: int) -> set[str]:
    """Addresses at which a port is open. A server on all addresses would answer at every one of these."""
    found = set()
    for address in ("127.0.0.1", "127.0.0.2", "::1"):
        try:
            socket.create_connection((address, port), timeout=2).close()
            found.add(address)
        except OSError:
            continue
    return found


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
