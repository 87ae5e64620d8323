"""Where workers are said to be, and what is said where they cannot be had."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from explorer.core.config import settings
from explorer.core.errors import ClusterError
from explorer.experiments.cluster.address import ClusterAddress, takes_gpu, usable_cores
from tests import commands

ASKED = ("--model", "bundled", "--task", "int-mult")


@pytest.mark.parametrize(
    ("text", "workers", "url"),
    [
        ("local", usable_cores(), None),
        ("local:3", 3, None),
        (" local:1 ", 1, None),
        ("ray://head", None, "ray://head:10001"),
        ("ray://10.0.0.7:6001", None, "ray://10.0.0.7:6001"),
        ("ray://[::1]:6001", None, "ray://[::1]:6001"),
    ],
)
def test_addresses_are_read(text: str, workers: int | None, url: str | None) -> None:
    assert ClusterAddress.parse(text) == ClusterAddress(workers, url)


@pytest.mark.parametrize(
    "text",
    ["", "local:", "local:0", "local:-1", "local:99999", "ray://", "ray://a:99999", "http://a", "ray://a/b"],
)
def test_what_is_no_address_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ClusterError, match=r"give local, local:N with N workers, or ray://HOST:PORT\.$"):
        ClusterAddress.parse(text)


COMMANDS = (
    ("study", "scorers", *ASKED),
    ("curve", *ASKED, "--kinds", "Q"),
    ("search", *ASKED, "--out", "mask.json"),
    ("reproduce", "bundled", "--out", "cells"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_commands_refuse_a_bad_address_before_anything_slow(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be read" in commands.refused(*words, "--cluster", "nowhere")
    monkeypatch.setenv("EIGENPRUNE_CLUSTER", "nowhere either")
    settings.cache_clear()
    assert "'nowhere either' cannot be read" in commands.refused(*words)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_without_ray_the_sentence_says_what_to_install(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "explorer.experiments.cluster.address.find_spec", lambda name: None if name == "ray" else found(name)
    )
    said = commands.refused(*words, "--cluster", "local:2")
    assert said == (
        "--cluster needs Ray, which is not installed: run `pip install 'eigenprune-explorer[cluster]'`, or leave the "
        "option out."
    )


def test_as_released_has_no_cells(tmp_path: Path) -> None:
    words = ("search", *ASKED, "--strategy", "paper", "--as-released", "--kinds", "K", "--out", tmp_path / "mask.json")
    assert "leave out --cluster" in commands.refused(*words, "--cluster", "local:2")


def test_a_model_over_several_gpus_is_no_workers() -> None:
    assert takes_gpu("cuda:1")
    assert not takes_gpu("cpu")
    with pytest.raises(ClusterError, match="device auto spreads a model over GPUs, of which a worker has one"):
        takes_gpu("auto")
