"""Measures what an embedding encodes: probes, and the plan of which to run."""
