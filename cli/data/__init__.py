"""`jepa data`: recordings as frames to learn from."""
