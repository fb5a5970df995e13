"""What an embedding is worth: probes, and which of them are run."""
