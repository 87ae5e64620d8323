"""Plots with one small menu each: PNG, SVG, and the data as CSV.

Plotly's own bar holds one image button and no data. So every plot of the pages is drawn by `draw`, which lays a menu
over its corner: the CSV is made by Python when it is asked for, the images by plotly.js in the browser, from what is
on the screen.
"""

from __future__ import annotations

from explorer.ui.components.figures.figures import draw, style

__all__ = ["draw", "style"]
