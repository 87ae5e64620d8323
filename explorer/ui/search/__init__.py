"""The page Search: have a mask found, watch it, take any mask of the way to the workbench."""

from explorer.ui.search.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/search.py", "Search", ":material/search:", draw=draw, shows="search")
