"""The service's own dialect: JSON or bare float32."""
