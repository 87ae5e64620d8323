"""The page Scores: explorer.ui.scores."""

from explorer.ui import scores, table

table.draw(scores.PAGE)
