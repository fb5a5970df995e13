"""Bridges from games and their libraries, each of which needs an extra."""
