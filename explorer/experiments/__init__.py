"""What is made of searches and measurements: studies, reproductions, fine-tunes, transfers."""
