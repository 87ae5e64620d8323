"""The page Try it: explorer.ui.try_it."""

from explorer.ui import table, try_it

table.draw(try_it.PAGE)
