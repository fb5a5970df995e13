"""From a trained network to a bundle of ONNX graphs."""

from model.export.bundle import export_bundle, export_networks

__all__ = ["export_bundle", "export_networks"]
