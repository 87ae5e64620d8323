"""The page Activations: explorer.ui.activations."""

from explorer.ui.activations import page

page.draw()
