"""transformers' common tests of image processors."""

from __future__ import annotations

import os
import unittest
from typing import Any

import transformers
from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin

import convnext.hf

PROCESSORS = {
    "transformers": {
        "torchvision": transformers.ConvNextImageProcessor,
        "pil": transformers.ConvNextImageProcessorPil,
    },
    "convnext.hf": {"pil": convnext.hf.ConvNextImageProcessor},
}


class Tester(ImageProcessingTester):
    def __init__(self, parent: Any) -> None:
        half = [0.5, 0.5, 0.5]
        super().__init__(
            parent,
            do_resize=True,
            size={"shortest_edge": 20},
            crop_pct=0.875,
            do_normalize=True,
            image_mean=half,
            image_std=half,
        )

    def _get_image_processing_classes(self) -> dict[str, Any]:
        return PROCESSORS[os.environ["DOOR"]]

    def expected_output_image_shape(self, _images: list[Any]) -> tuple[int, ...]:
        return self.num_channels, 20, 20


class ConvNextImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = Tester
