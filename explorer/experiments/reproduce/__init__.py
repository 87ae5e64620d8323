"""Reproduce tables of results: recipes in files, run cell by cell, kept as they come, compared with what was published.

1. A recipe (`recipe`) says in a TOML file what one cell of a table is: model and revision, task, strategy and its
   settings, seed, and the published value if there is one.
2. A suite (`suites`) is a folder of recipes.
3. `run` measures one cell with the ordinary searches; `cells` keeps it on disk, so that a stopped suite goes on.
4. `verdict` says what a cell means: whether the published value lies in its interval, how much of an ability came back.
"""
