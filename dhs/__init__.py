"""The strong-lens finder: preprocessing, training, scoring and selection functions."""
