"""What one browser session has chosen, made and asked for, and how links and reloads find it again."""
