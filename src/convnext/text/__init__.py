"""Texts as vectors, by the text towers of CLIP's checkpoints, to compare with pictures."""

from convnext.text.encoder import TextEncoder

__all__ = ["TextEncoder"]
