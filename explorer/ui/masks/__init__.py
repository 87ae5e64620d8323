"""The page Masks."""

from explorer.ui.masks.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/masks.py", "Masks", ":material/bookmarks:", draw=draw)
