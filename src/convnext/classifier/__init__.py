"""Pictures to answers: classes, embeddings, feature maps, and where a class was seen."""

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
