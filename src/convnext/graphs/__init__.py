"""Inference graphs built straight from weights, by no training framework.

`network` says what a graph is built from; each builder turns that into one runtime's graph.
"""
