"""A training run: what a step draws, minimises and changes, and what is left of it on disk."""
