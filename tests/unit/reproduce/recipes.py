"""Recipes for tests: a quick one on the bundled model, and ways to write it to a file."""

from __future__ import annotations

from pathlib import Path

QUICK = """
name = "quick"
control_draws = 2

[model]
name = "small"
label = "Small | one"
source = "bundled"

[task]
name = "int-mult"
limit = 24
validation_limit = 10
test_limit = 12

[strategy]
name = "paper"
kinds = "Q,K"
max_removed = 2
"""


def write(folder: Path, text: str = QUICK, *, name: str = "quick", **replaced: str) -> Path:
    """Write a recipe file, with words of it replaced: `x="y"` puts y in the place of the line that sets x."""
    lines = text.replace('name = "quick"', f'name = "{name}"').splitlines()
    for field, value in replaced.items():
        (place,) = (n for n, line in enumerate(lines) if line.startswith(f"{field} = "))
        lines[place] = value
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
