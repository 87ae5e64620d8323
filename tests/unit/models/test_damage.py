"""Hundreds of damaged models: each loads, or is refused in a sentence, within a time limit."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from explorer.cli import app
from explorer.core.errors import ExplorerError
from explorer.models import load, locate
from explorer.spectra.checkpoint import Checkpoint
from tests import broken, gguf_file
from tests.families import FAMILIES

TIMES, SECONDS = 30, 30.0


def shards(path: Path) -> Path:
    """A model in two shards, as every damaged copy begins."""
    stored = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    half = sorted(stored)[::2]
    save_file({name: stored[name] for name in half}, path / "a.safetensors")
    save_file({name: stored[name] for name in stored if name not in half}, path / "b.safetensors")
    listed = {name: "a.safetensors" if name in half else "b.safetensors" for name in stored}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return path


def survives(work: Callable[[], object]) -> str:
    """What is said of a model, empty where it works; anything but a sentence in time fails."""
    begun = time.monotonic()
    said = ""
    try:
        work()
    except ExplorerError as error:
        said = str(error)
        assert "\n" not in said
        assert 0 < len(said) < 900
    assert time.monotonic() - begun < SECONDS
    return said


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", broken.DAMAGE)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_damaged_folder_loads_or_is_a_sentence(tmp_path: Path, family: str, what: str) -> None:
    whole = shards(FAMILIES[family].save(tmp_path / "whole"))
    file, damage = broken.DAMAGE[what]
    refusals = []
    for seed in range(TIMES // 2):
        path = tmp_path / f"model{seed}"
        shutil.copytree(whole, path)
        damage(path / file, random.Random(f"{family} {what} {seed}"))
        refusals.append(survives(lambda path=path: load(str(path))))  # type: ignore[misc]
        survives(lambda path=path: Checkpoint(locate(str(path))).matrices())  # type: ignore[misc]
        shutil.rmtree(path)
    assert any(refusals) or file == "generation_config.json"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_gguf_file_loads_or_is_a_sentence(tmp_path: Path) -> None:
    whole = gguf_file.write(tmp_path / "whole.gguf")
    assert not survives(lambda: load(str(whole)))
    for seed in range(2 * TIMES):
        path = tmp_path / f"model{seed}.gguf"
        shutil.copy(whole, path)
        broken.bytes_of(path, random.Random(f"gguf {seed}"), span=2600)
        survives(lambda path=path: load(str(path)))  # type: ignore[misc]
        path.unlink()


@pytest.mark.filterwarnings("ignore")
def test_the_command_line_says_the_sentence_and_leaves_with_2(tmp_path: Path) -> None:
    whole = shards(FAMILIES["llama"].save(tmp_path / "whole"))
    for seed, (what, (file, damage)) in enumerate(broken.DAMAGE.items()):
        path = tmp_path / f"model{seed}"
        shutil.copytree(whole, path)
        damage(path / file, random.Random(f"line {what}"))
        done = CliRunner().invoke(app, ["matrices", "--model", str(path)])
        assert done.exit_code in (0, 2), (what, done.exception)
        if done.exit_code == 2:
            assert "Error: " in done.stderr
            assert "Traceback" not in done.stderr
