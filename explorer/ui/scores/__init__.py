"""The page Scores."""

from explorer.ui.scores.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/scores.py", "Scores", ":material/leaderboard:", draw=draw)
