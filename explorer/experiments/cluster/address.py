"""Where workers are: `local`, `local:4` or `ray://HOST:PORT`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec

from explorer.core.errors import ClusterError

PORT = 10001  # of Ray's server for clients
MOST_WORKERS = 10_000
_LOCAL = re.compile(r"local(?::(\d{1,5}))?", re.ASCII)
_RAY = re.compile(r"ray://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(\d{1,5}))?", re.ASCII)


def takes_gpu(device: str) -> bool:
    """Whether each worker is to have a GPU of its own.

    Raises:
        ClusterError: a model spread over several, of which a worker has one.
    """
    if device == "auto":
        raise ClusterError("device auto spreads a model over GPUs, of which a worker has one: give cuda or cpu.")
    return device.startswith("cuda")


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster: workers on this machine, or one that runs already.

    Attributes:
        workers: how many, of a local one.
        url: of one that runs already; None for a local one.
    """

    workers: int | None
    url: str | None

    @classmethod
    def parse(cls, text: str) -> ClusterAddress:
        """Read an address.

        Raises:
            ClusterError: it is none.
        """
        if (local := _LOCAL.fullmatch(text.strip())) is not None:
            workers = usable_cores() if local[1] is None else int(local[1])
            if 1 <= workers <= MOST_WORKERS:
                return cls(workers, None)
        if (ray := _RAY.fullmatch(text.strip())) is not None and int(ray[2] or PORT) <= 65535:
            return cls(None, f"ray://{ray[1]}:{ray[2] or PORT}")
        raise ClusterError(
            f"--cluster {text[:60]!r} cannot be read: give local, local:N with N workers, or ray://HOST:PORT."
        )


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_ray() -> None:
    """Raise ClusterError unless Ray is installed."""
    if find_spec("ray") is None:
        raise ClusterError(
            "--cluster needs Ray, which is not installed: run `pip install 'eigenprune-explorer[cluster]'`, or leave "
            "the option out."
        )
