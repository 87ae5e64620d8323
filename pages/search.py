"""The page Search: explorer.ui.search."""

from explorer.ui.search import page

page.draw()
