"""What is removed from a model: mask files, sets and libraries of them, applying them, and what that changes."""
