"""The page Overview."""

from explorer.ui.overview.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/overview.py", "Overview", ":material/home:", draw=draw)
