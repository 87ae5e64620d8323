"""Run a model on text or a task and say what happened; nothing here knows of masks."""
