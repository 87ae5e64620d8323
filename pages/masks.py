"""The page Masks: explorer.ui.masks."""

from explorer.ui import masks, table

table.draw(masks.PAGE)
