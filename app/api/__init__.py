"""What both dialects of the API share: headers, bodies, errors, the guard, health checks and documentation."""
