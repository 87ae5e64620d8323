"""The page Search."""

from __future__ import annotations

from explorer.ui.search.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/search.py", "Search", ":material/search:", draw=draw, shows="search")
