"""The page Activations: explorer.ui.activations."""

from explorer.ui import activations, table

table.draw(activations.PAGE)
