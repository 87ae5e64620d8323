"""The page Scores: explorer.ui.scores."""

from explorer.ui.scores import page

page.draw()
