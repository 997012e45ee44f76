"""Optimizers, learning rates and precision of a training step."""
