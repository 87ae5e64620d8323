"""The clickable plot of singular values: a Streamlit component that owns plotly.js.

How one click travels:

1. The browser finds the point under the pointer, marks it at once, and appends a pick with the next
   sequence number to its log, which is component *state*. A trigger would be lost when clicks are fast.
2. Python takes the picks above the last handled number, drops what does not fit what was shown, and hands the
   rest to ``on_pick`` before the script body runs: one click, one rerun.
3. The next payload names the last handled number. The browser forgets those picks and redraws the later ones
   on top of what Python sent, so a slow rerun never undoes a newer click.

Example:
    >>> def remove(picks):
    ...     for matrix, removed in apply_picks(shown, picks).items():
    ...         ...  # store the new removed sets
    >>> spectrum_chart(shown, key="spectrum", on_pick=remove)  # doctest: +SKIP
"""

from __future__ import annotations

from explorer.ui.components.spectrum_chart.chart import LOAD_PLOTLY, SAVE_TEXT, Axis, spectrum_chart
from explorer.ui.components.spectrum_chart.picks import Pick, PickKind, PickLog, apply_picks
from explorer.ui.components.spectrum_chart.plotly_js import ensure_plotly_js
from explorer.ui.components.spectrum_chart.series import Series

__all__ = [
    "LOAD_PLOTLY", "SAVE_TEXT", "Axis", "Pick", "PickKind", "PickLog", "Series", "apply_picks", "ensure_plotly_js",
    "spectrum_chart",
]  # fmt: skip
