"""What README and the page of commands show runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run

ROOT = Path(__file__).parents[2]
README, COMMANDS = ROOT / "README.md", ROOT / "docs" / "commands.md"


def block(language: str, page: Path = README) -> str:
    """The first block in a language on a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)[
        0
    ]


def test_the_python_example_runs_and_finds_the_hidden_ability(tmp_path: Path) -> None:
    code = block("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    worst, said = done.stdout.splitlines()
    assert re.fullmatch(r"-1\.0\d+ L0\.[QK]\.H3 0", worst)
    before, after = re.match(r"([\d.]+)% -> ([\d.]+)% of 79", said).groups()
    assert float(after) - float(before) > 50
    assert (tmp_path / "mult.mask.json").is_file()


def test_the_shell_examples_on_the_bundled_model_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for line in block("sh", COMMANDS).splitlines() if "bundled" in line]
    assert len(commands) == 7
    for command in commands:
        words = command.split()
        assert words[0] == "eigenprune"
        done = run(*words[1:])
        assert done.exit_code == 0, done.stderr


def test_the_python_example_of_the_page_of_commands_runs(tmp_path: Path) -> None:
    code = block("python", COMMANDS)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command, accuracy = done.stdout.splitlines()
    assert command == "eigenprune eval --model bundled --task int-mult --limit 20"
    assert 0 <= float(accuracy) <= 0.2
