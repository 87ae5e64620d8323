"""Results to plotly figures and self-contained pages. Pure: no state, no screen."""
