"""The page Direction: the card of one singular direction."""

from explorer.ui.direction.page import draw
from explorer.ui.shell.pages import Page

PAGE = Page("pages/direction.py", "Direction", ":material/arrow_outward:", draw=draw, shows="direction")
