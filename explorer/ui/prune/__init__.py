"""The page Prune."""

from explorer.ui.prune.cards import panel_first
from explorer.ui.prune.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/prune.py", "Prune", ":material/content_cut:", draw=draw, first=panel_first, shows="mask")
