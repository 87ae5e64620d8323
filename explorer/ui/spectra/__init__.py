"""The page Spectra."""

from explorer.ui.shell.pages import Page
from explorer.ui.spectra.page import draw

PAGE = Page("pages/spectra.py", "Spectra", ":material/bar_chart:", draw=draw, shows="matrix")
