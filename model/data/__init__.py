"""Frames to learn from: read, split by game, mirrored and checked."""
