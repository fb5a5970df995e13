"""The service's own dialect: JSON or raw float32."""
