"""What all figures have in common: colours that mean one thing everywhere, labels, frames."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

# Okabe-Ito: told apart by colour-blind readers, and by dash or marker besides. Each means one thing everywhere.
HARMFUL, NEEDED, BEFORE, AFTER = "#D55E00", "#0072B2", "#7f7f7f", "#009E73"
DIFFERENCE = "#CC79A7"  # of two models
ORANGE, SKY = "#E69F00", "#3A8DCB"  # series and marks that are none of these
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MORE_OR_LESS = [(0.0, "#762A83"), (0.5, "#F5F5F5"), (1.0, "#1B7837")]  # than unpruned
CONFIG = {"displaylogo": False, "showSendToCloud": False, "toImageButtonOptions": {"format": "svg"}}
NOTHING = 1e-6
LABELLED_LAYERS = 12  # more would run into each other
MANY = 6  # curves that are told apart by hue
WEBGL_FROM = 3_000  # points that SVG would draw slowly
_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}


def position_labels(tokens: Sequence[str]) -> list[str]:
    """Axis labels of positions: the token with its spaces visible, made distinct by its position."""
    return [
        f"{position} {escape(token.replace(' ', '␣').replace(chr(10), '⏎'))}" for position, token in enumerate(tokens)
    ]


def layer_labels(count: int) -> list[str]:
    """Axis labels of the residual stream's entries: before the first block, then after each one."""
    return ["embed", *(f"L{layer}" for layer in range(count - 1))]


def scale_end(values: NDArray[np.float64]) -> float:
    """End of a colour scale: the largest modulus, or 1 where nothing differs by more than rounding."""
    largest = float(np.abs(values).max())
    return largest if largest > NOTHING else 1.0


def frame(height: int = 320, *, showlegend: bool = True) -> dict[str, object]:
    """Height, margins and legend of a figure's layout."""
    return {"height": height, "margin": _MARGIN, "showlegend": showlegend}
