"""What several pages show of a model under the session's mask: its matrices, live figures, its inside."""
