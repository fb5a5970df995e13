"""What the dialects of HTTP and gRPC share: heads and bodies, problems, health and documentation."""
