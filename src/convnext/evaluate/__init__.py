"""Evaluate the accuracy of a model on labelled pictures, and write reports.

subject = open_subject("convnext_tiny.fb_in1k")
data = open_dataset("imagenet/val", subject.classes)
measured = evaluate(subject.engine, subject.preprocess, data)
report = build_report(subject, data, measured, batch_size=32)
"""

from convnext.data.datasets import open_dataset
from convnext.evaluate.report import build_report
from convnext.evaluate.run import evaluate
from convnext.evaluate.subject import open_subject
from convnext.evaluate.temperature import (
    fit_temperature,
    measure_temperature,
    write_with_temperature,
)

__all__ = [
    "build_report",
    "evaluate",
    "fit_temperature",
    "measure_temperature",
    "open_dataset",
    "open_subject",
    "write_with_temperature",
]
