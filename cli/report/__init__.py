"""`jepa report`."""
