"""Classify pictures, compute embeddings and feature maps, and explain classes by heat maps."""

from convnext.classifier.classifier import Classifier
from convnext.classifier.explain import Explanation
from convnext.classifier.gallery import Results
from convnext.classifier.results import Answer, ClassScore, Embedding, Prediction
from convnext.classifier.zero_shot import ZeroShot, save_head, zero_shot_weights

__all__ = [
    "Answer",
    "ClassScore",
    "Classifier",
    "Embedding",
    "Explanation",
    "Prediction",
    "Results",
    "ZeroShot",
    "save_head",
    "zero_shot_weights",
]
