"""Run the command line in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from explorer.actions.request import Result as ActionResult
from explorer.cli import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def report(*words: object) -> Any:
    """What a command prints with --json: all of stdout is one JSON value."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def keys_of(kind: type) -> list[str]:
    """Keys of what a command prints, in order."""
    return list(kind.keys()) if issubclass(kind, ActionResult) else list(kind.__annotations__)


def refused(*words: object) -> str:
    """The one sentence with which a command refuses, the same with and without --json."""
    for extra in ((), ("--json",)):
        result = run(*words, *extra)
        assert (result.exit_code, result.stdout) == (2, "")
        said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(said) == 1
        assert "Traceback" not in result.stderr
    return said[0].removeprefix("Error: ")
