"""The page Prune."""
