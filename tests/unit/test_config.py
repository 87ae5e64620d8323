"""Settings come from the environment once, and unusable values are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from explorer.core.config import ASSETS, Settings, settings
from explorer.core.errors import SettingsError

VARIABLES = ("CACHE", "WORKSPACE", "DEVICE", "DTYPE", "SEED")


@pytest.fixture(autouse=True)
def _bare_environment(_own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(f"EIGENPRUNE_{variable}", raising=False)
    settings.cache_clear()


def test_defaults_are_the_users_own_folders_on_the_cpu_in_float32() -> None:
    found = settings()
    assert (found.device, found.dtype, found.seed) == ("cpu", "float32", 0)
    assert found.cache_dir != found.workspace_dir
    assert {found.cache_dir.name, found.workspace_dir.name} == {"eigenprune"}
    assert found.cache_dir.is_absolute()


def test_every_setting_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = (str(tmp_path / "c"), str(tmp_path / "w"), "cuda:1", "bfloat16", "12")
    for variable, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(f"EIGENPRUNE_{variable}", value)
    assert settings() == Settings(tmp_path / "c", tmp_path / "w", "cuda:1", "bfloat16", 12)


def test_empty_variables_mean_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = settings()
    settings.cache_clear()
    for variable in VARIABLES[:4]:
        monkeypatch.setenv(f"EIGENPRUNE_{variable}", "")
    assert settings() == expected


@pytest.mark.parametrize("seed", ["-1", "1.5", "abc", "", " ", "²", "١"])
def test_a_seed_that_is_no_whole_number_is_refused(seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_SEED", seed)
    with pytest.raises(SettingsError, match=r"EIGENPRUNE_SEED is .* whole number of 0 or more"):
        settings()


@pytest.mark.parametrize("dtype", ["float8", "int8", "FLOAT32", "torch.float32"])
def test_an_unknown_dtype_is_refused_with_the_known_ones(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_DTYPE", dtype)
    with pytest.raises(SettingsError, match="EIGENPRUNE_DTYPE to one of float32, float64, bfloat16, float16"):
        settings()


@pytest.mark.parametrize("seconds", ["0", "0.05", "111", "-1", "soon", "1e2", "٣"])
def test_a_wait_for_closed_tabs_out_of_bounds_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIGENPRUNE_CLOSED_SECONDS", seconds)
    with pytest.raises(SettingsError, match=r"EIGENPRUNE_CLOSED_SECONDS is .* seconds from 0\.1 to 110"):
        settings()


def test_the_wait_for_closed_tabs_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().closed_seconds == 90
    settings.cache_clear()
    monkeypatch.setenv("EIGENPRUNE_CLOSED_SECONDS", "2.5")
    assert settings().closed_seconds == 2.5


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings()
    monkeypatch.setenv("EIGENPRUNE_SEED", "5")
    assert settings() is first


def test_assets_lie_in_the_repository() -> None:
    assert (ASSETS / "mask.schema.json").is_file()
