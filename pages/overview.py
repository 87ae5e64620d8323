"""The page Overview: explorer.ui.overview."""

from explorer.ui.overview import page

page.draw()
