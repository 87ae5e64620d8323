"""Masks by hub id and by address, against a stand-in for the hub and the web on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from explorer.core.errors import MaskError
from explorer.masks import mask as mask_files
from explorer.masks.mask import load_mask
from tests.commands import refused, report
from tests.hub import StandIn, stand_in
from tests.unit.test_mask_files import VALID

TEXT = json.dumps(VALID)
PLACE = "/ada/pruned/resolve/main/mask.json"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    """A hub on this machine, with one mask."""
    with stand_in() as serving:
        template = f"{serving.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", serving.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        serving.served[PLACE] = serving.served["/ada/pruned/resolve/v2/deep/other.json"] = TEXT.encode()
        yield serving


def test_a_mask_of_the_hub_is_read(hub: StandIn, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(TEXT)
    expected = load_mask(tmp_path / "m.json")
    for name in ("hf:ada/pruned", "hf:ada/pruned/mask.json", "hf:ada/pruned@v2/deep/other.json"):
        assert load_mask(name) == load_mask(Path(name)) == expected
    assert report("mask", "show", "hf:ada/pruned")["mask_digest"] == expected.digest


def test_a_mask_of_the_web_is_read(hub: StandIn, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(TEXT)
    expected = load_mask(tmp_path / "m.json")
    hub.moved["/short"] = PLACE
    for name in (f"{hub.url}{PLACE}", Path(f"{hub.url}{PLACE}"), f"{hub.url}/short"):
        assert load_mask(name) == expected


def test_what_cannot_be_had_is_a_sentence(hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.moved["/away"] = "http://example.org/mask.json"
    hub.served["/text"] = b"no mask"
    for name, said in (
        ("hf:ada/gone", "cannot be had"),
        ("hf:ada", "is no file of the hub"),
        ("hf:ada/pruned/../../etc/passwd", "is no file of the hub"),
        (f"{hub.url}/gone", "status 404"),
        (f"{hub.url}/text", "is not a usable mask file"),
        (f"{hub.url}/away", "is no https address"),
        ("http://example.org/mask.json", "is no https address"),
        ("https://nowhere.invalid/mask.json", "check address and network"),
    ):
        with pytest.raises(MaskError, match=said):
            load_mask(name)
    assert "cannot be had" in refused("mask", "show", "hf:ada/gone")
    monkeypatch.setattr(mask_files, "MAX_BYTES", 100)
    for name in ("hf:ada/pruned", f"{hub.url}{PLACE}"):
        with pytest.raises(MaskError, match="mask files have at most 100 bytes"):
            load_mask(name)
    assert not list((tmp_path / "hub").rglob("mask.json"))  # nothing that is too large has been taken
