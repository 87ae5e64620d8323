"""The page Activations."""

from explorer.ui.activations.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/activations.py", "Activations", ":material/visibility:", draw=draw, shows="example")
