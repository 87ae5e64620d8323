"""The page Spectra: explorer.ui.spectra."""

from explorer.ui import spectra, table

table.draw(spectra.PAGE)
