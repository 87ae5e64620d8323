"""What the browser sends when a point of a Plotly chart is clicked; it is checked, as all input is."""

from __future__ import annotations

from typing import Any


def selected_id(event: Any) -> str | None:
    """The id of the first selected point; None if nothing is selected, or something else was sent."""
    points = event.get("selection", {}).get("points", []) if isinstance(event, dict) else []
    name = points[0].get("id") if points and isinstance(points[0], dict) else None
    return name if isinstance(name, str) else None
