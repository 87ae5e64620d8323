"""What is around every page: its title, the sidebar, choosing model, task and mask, what can be taken away."""
