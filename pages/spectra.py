"""The page Spectra: explorer.ui.spectra."""

from explorer.ui.spectra import page

page.draw()
