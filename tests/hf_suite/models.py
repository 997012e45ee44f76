"""transformers' common tests of models, configurations and backbones, for ConvNeXt's classes."""

from __future__ import annotations

import unittest
from typing import Any

import torch
import transformers
from tests.test_backbone_common import BackboneTesterMixin
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin, floats_tensor

STAGES = ["stage2", "stage3", "stage4"]


class Tester:
    """A small model and a batch for it, in the form that transformers' tests ask for them."""

    batch_size, num_channels, image_size, num_stages = 3, 3, 32, 4
    hidden_sizes = (10, 20, 30, 40)

    def __init__(self, config_class: Any) -> None:
        self.config_class = config_class
        self.is_training = config_class is not transformers.DINOv3ConvNextConfig

    def get_config(self) -> Any:
        return self.config_class(
            depths=[2, 2, 3, 2],
            hidden_sizes=list(self.hidden_sizes),
            num_labels=10,
            out_features=STAGES,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        shape = (self.batch_size, self.num_channels, self.image_size, self.image_size)
        return self.get_config(), {"pixel_values": floats_tensor(shape)}


class Common(ModelTesterMixin):
    config_class: Any
    test_resize_embeddings = False
    has_attentions = False
    # Of models with words.
    test_inputs_embeds = None
    test_model_get_set_embeddings = None
    test_feed_forward_chunking = None

    def setUp(self) -> None:
        self.model_tester = Tester(self.config_class)
        self.config_tester = ConfigTester(
            self,
            config_class=self.config_class,
            has_text_modality=False,
            common_properties=["num_channels", "hidden_sizes"],
            hidden_size=37,
        )

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_hidden_states_output(self) -> None:
        for model_class in self.all_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            model = model_class(config).eval()
            asked = model(**inputs, output_hidden_states=True)
            config.output_hidden_states = True
            for answer in (asked, model(**inputs)):
                assert len(answer.hidden_states) == 5
                assert tuple(answer.hidden_states[1].shape) == (3, 10, 8, 8)


class Backbone(BackboneTesterMixin):
    config_class: Any
    has_attentions = False

    def setUp(self) -> None:
        self.model_tester = Tester(self.config_class)


class ConvNextModelTest(Common, unittest.TestCase):
    config_class = transformers.ConvNextConfig
    all_model_classes = (
        transformers.ConvNextModel,
        transformers.ConvNextForImageClassification,
        transformers.ConvNextBackbone,
    )


class ConvNextV2ModelTest(Common, unittest.TestCase):
    config_class = transformers.ConvNextV2Config
    all_model_classes = (
        transformers.ConvNextV2Model,
        transformers.ConvNextV2ForImageClassification,
        transformers.ConvNextV2Backbone,
    )


class DINOv3ConvNextModelTest(Common, unittest.TestCase):
    config_class = transformers.DINOv3ConvNextConfig
    all_model_classes = (transformers.DINOv3ConvNextModel,)
    # The first map is the pictures, which have no gradient.
    test_retain_grad_hidden_states_attentions = None


class ConvNextBackboneTest(Backbone, unittest.TestCase):
    config_class = transformers.ConvNextConfig
    all_model_classes = (transformers.ConvNextBackbone,)


class ConvNextV2BackboneTest(Backbone, unittest.TestCase):
    config_class = transformers.ConvNextV2Config
    all_model_classes = (transformers.ConvNextV2Backbone,)


class DINOv3ConvNextBackboneTest(Backbone, unittest.TestCase):
    config_class = transformers.DINOv3ConvNextConfig
    all_model_classes = (transformers.DINOv3ConvNextBackbone,)
