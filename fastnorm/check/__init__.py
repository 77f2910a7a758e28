"""Self-check: compare every backend with the definition, and time it."""
