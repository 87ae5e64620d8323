"""What is drawn without knowing who asks: the clickable plot, figures, keys, words."""
