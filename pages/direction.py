"""The page Direction: explorer.ui.direction."""

from explorer.ui import direction, table

table.draw(direction.PAGE)
