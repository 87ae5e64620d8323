"""What a wheel carries beside the code: a step of the build, named in pyproject.toml.

A checkout has app, pages and assets at its top. An installed package has no top, so that the wheel carries them in
`explorer/_files`, where `explorer.core.config` looks first. An editable install reads the checkout's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

INSIDE = Path("explorer", "_files")
CARRIED = (
    ".streamlit/config.toml",
    "app.py",
    "assets/bundled/*",
    "assets/icon.svg",
    "assets/mask.schema.json",
    "assets/masks/*.json",
    "assets/recipes/**/*.toml",
    "assets/text/*",
    "pages/*.py",
)


def carried() -> list[str]:
    """The files, as paths below the checkout's top, which builds start in."""
    found = {pattern: sorted(Path().glob(pattern)) for pattern in CARRIED}
    if missing := [pattern for pattern, files in found.items() if not files]:
        raise FileNotFoundError(f"nothing here is called {', '.join(missing)}: build from a complete checkout")
    return [file.as_posix() for files in found.values() for file in files]


class BuildPy(build_py):
    """Builds the package with the files that it carries."""

    def run(self) -> None:
        """Build into an empty folder, so that what an earlier version had is not there."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for source, target in self._pairs():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What is built."""
        return [*super().get_outputs(include_bytecode), *(target for _, target in self._pairs())]

    def get_source_files(self) -> list[str]:
        """What a source distribution needs to build the same wheel; this script is part of it."""
        return [*super().get_source_files(), *carried(), "scripts/packing.py"]

    def _pairs(self) -> list[tuple[str, str]]:
        """Sources and targets; none for an editable install."""
        if self.editable_mode:
            return []
        return [(file, str(Path(self.build_lib, INSIDE, file))) for file in carried()]
