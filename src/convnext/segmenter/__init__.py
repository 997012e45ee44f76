"""Compute the class of each pixel of pictures."""

from convnext.segmenter.results import Area, Segmentation
from convnext.segmenter.segmenter import Segmenter

__all__ = ["Area", "Segmentation", "Segmenter"]
