"""Training of segmentation models: the loss over pixels, validation, the result."""
