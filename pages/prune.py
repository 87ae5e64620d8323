"""The page Prune: explorer.ui.prune."""

from explorer.ui.prune import page

page.draw()
