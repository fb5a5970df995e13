"""How the service is observed: metrics, logs, traces, drift and novelty."""
