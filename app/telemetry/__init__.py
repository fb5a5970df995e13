"""How the service is observed: metrics, logs, traces and drift."""
