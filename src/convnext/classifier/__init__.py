"""Classify pictures, compute embeddings and feature maps, and explain classes by heat maps."""

from convnext.classifier.classifier import Classifier
from convnext.classifier.explain import Explanation
from convnext.classifier.gallery import Results
from convnext.classifier.results import Answer, ClassScore, Embedding, Prediction

__all__ = [
    "Answer",
    "ClassScore",
    "Classifier",
    "Embedding",
    "Explanation",
    "Prediction",
    "Results",
]
