"""The page Search: explorer.ui.search."""

from explorer.ui import search, table

table.draw(search.PAGE)
