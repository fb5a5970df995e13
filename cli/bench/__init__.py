"""`jepa bench`."""
