"""From a trained network to a bundle of ONNX graphs."""
