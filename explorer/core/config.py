"""Where things are kept and how models are loaded; read from the environment once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from explorer.core.errors import ExplorerError, SettingsError

CLOSED_SECONDS = (0.1, 110.0)  # Streamlit itself has forgotten a closed tab after 120
DTYPES = ("float32", "float64", "bfloat16", "float16")
_PACKAGE = Path(__file__).resolve().parents[1]
# Where app.py, pages and assets are: a wheel carries them inside the package, a checkout has them beside it.
HOME = inside if (inside := _PACKAGE / "_files").is_dir() else _PACKAGE.parent
ASSETS = HOME / "assets"


@dataclass(frozen=True)
class Settings:
    """Process-wide settings.

    Attributes:
        cache_dir: decompositions and converted models; safe to delete (`EIGENPRUNE_CACHE`).
        workspace_dir: the user's own things, such as autosaved masks (`EIGENPRUNE_WORKSPACE`).
        device: torch device for models, such as `cpu` or `cuda`, or `auto` for all GPUs (`EIGENPRUNE_DEVICE`).
        dtype: floating-point type of the loaded weights, one of `DTYPES` (`EIGENPRUNE_DTYPE`).
        cache_bytes: size of the kept decompositions; the least recently used go first (`EIGENPRUNE_CACHE_GB`).
        seed: seed for splits, random controls and samples (`EIGENPRUNE_SEED`).
        cluster: where independent cells are measured, `local`, `local:N` or `ray://HOST:PORT`; None for this process
            (`EIGENPRUNE_CLUSTER`).
        read_only: whether visitors change nothing that others see, and no path of this machine can be typed: for an
            explorer that strangers use (`EIGENPRUNE_READONLY`).
        models: names of the models that may be opened, None for all (`EIGENPRUNE_MODELS`).
        closed_seconds: for how long a closed tab of the app can come back before its memory is freed and its jobs are
            stopped (`EIGENPRUNE_CLOSED_SECONDS`).
    """

    cache_dir: Path
    workspace_dir: Path
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    cache_bytes: int = 20 * 10**9
    closed_seconds: float = 90.0
    cluster: str | None = None
    read_only: bool = False
    models: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SettingsError(
                f"dtype {self.dtype!r} is not known: set EIGENPRUNE_DTYPE to one of {', '.join(DTYPES)}."
            )


@cache
def settings() -> Settings:
    """The settings of this process, from the environment."""
    seed = os.environ.get("EIGENPRUNE_SEED", "0")
    if not (seed.isascii() and seed.isdecimal()):
        raise SettingsError(f"EIGENPRUNE_SEED is {seed!r}: set it to a whole number of 0 or more.")
    gigabytes = os.environ.get("EIGENPRUNE_CACHE_GB", "20")
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", gigabytes, re.ASCII):
        raise SettingsError(f"EIGENPRUNE_CACHE_GB is {gigabytes!r}: set it to a number of gigabytes, such as 20.")
    closed = os.environ.get("EIGENPRUNE_CLOSED_SECONDS", "90")
    shortest, longest = CLOSED_SECONDS
    if not (re.fullmatch(r"\d{1,3}(\.\d{1,3})?", closed, re.ASCII) and shortest <= float(closed) <= longest):
        raise SettingsError(
            f"EIGENPRUNE_CLOSED_SECONDS is {closed!r}: set it to a number of seconds from {shortest:g} to {longest:g}."
        )
    read_only = os.environ.get("EIGENPRUNE_READONLY") or "0"
    if read_only not in ("0", "1"):
        raise SettingsError(f"EIGENPRUNE_READONLY is {read_only!r}: set it to 1, or to 0.")
    models = os.environ.get("EIGENPRUNE_MODELS") or None
    return Settings(
        read_only=read_only == "1",
        models=None if models is None else tuple(name.strip() for name in models.split(",")),
        cache_dir=Path(os.environ.get("EIGENPRUNE_CACHE") or user_cache_path("eigenprune")),
        workspace_dir=Path(os.environ.get("EIGENPRUNE_WORKSPACE") or user_data_path("eigenprune")),
        device=os.environ.get("EIGENPRUNE_DEVICE") or "cpu",
        dtype=os.environ.get("EIGENPRUNE_DTYPE") or "float32",
        seed=int(seed),
        cache_bytes=round(float(gigabytes) * 10**9),
        closed_seconds=float(closed),
        cluster=os.environ.get("EIGENPRUNE_CLUSTER") or None,
    )


def check_writable(error: type[ExplorerError], what: str) -> None:
    """Refuse to change what others see, where strangers use the explorer.

    Args:
        error: what is raised.
        what: what is not done, as the beginning of a sentence.

    Raises:
        ExplorerError: of that type, if `EIGENPRUNE_READONLY` is set.
    """
    if settings().read_only:
        raise error(f"{what} is switched off in this explorer (EIGENPRUNE_READONLY): run your own for that.")
