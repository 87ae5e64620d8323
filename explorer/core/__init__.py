"""What every room stands on: errors, settings, files, progress, SQLite, and the names of matrices."""
