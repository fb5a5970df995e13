"""Which models are served: found, loaded, checked, watched."""
