"""Long work outside the page scripts, and what the whole process shares."""
