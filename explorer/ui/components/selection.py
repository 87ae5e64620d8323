"""What the browser sends when points of a Plotly chart are selected; it is checked, as all input is."""

from __future__ import annotations

from typing import Any


def selected_ids(event: Any) -> tuple[str, ...]:
    """The ids of the selected points; empty if nothing is selected, or something else was sent."""
    points = event.get("selection", {}).get("points", []) if isinstance(event, dict) else []
    names = (point.get("id") for point in points if isinstance(point, dict))
    return tuple(name for name in names if isinstance(name, str))


def selected_id(event: Any) -> str | None:
    """The id of the first selected point; None if there is none."""
    return next(iter(selected_ids(event)), None)
