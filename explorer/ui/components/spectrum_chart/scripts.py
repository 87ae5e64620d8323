"""The plot's JavaScript, and the parts of it that other components use too."""

from __future__ import annotations

from pathlib import Path

# Joined in this order: an inline module cannot import a file.
_ORDER = ("load.js", "save.js", "model.js", "table.js", "figure.js", "marks.js", "geometry.js", "chart.js")


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


LOAD_PLOTLY = _read("load.js")  # loadPlotly(url)
SAVE_TEXT = _read("save.js")  # saveText(name, text)
CHART = "\n".join(map(_read, _ORDER))
