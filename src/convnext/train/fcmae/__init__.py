"""Masked pretraining: the autoencoder, its training, and drawings of what it reconstructs."""
