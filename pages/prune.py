"""The page Prune: explorer.ui.prune."""

from explorer.ui import prune, table

table.draw(prune.PAGE)
