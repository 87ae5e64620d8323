"""The page Overview: explorer.ui.overview."""

from explorer.ui import overview, table

table.draw(overview.PAGE)
