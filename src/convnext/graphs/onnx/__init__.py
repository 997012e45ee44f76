"""Building ONNX graphs."""
