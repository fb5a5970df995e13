"""The service: loads model bundles, batches what bots ask, and answers over HTTP. Needs no PyTorch."""

__version__ = "0.1.0"
