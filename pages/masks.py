"""The page Masks: explorer.ui.masks."""

from explorer.ui.masks import page

page.draw()
