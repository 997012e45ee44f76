"""Answers as dictionaries and tuples; the card of a repository."""

import pytest

from convnext import hf
from convnext.hf import ConvNextConfig, ConvNextV2Config
from convnext.hf.card import model_card
from convnext.hf.outputs import ImageClassifierOutputWithNoAttention


def test_an_answer_is_read_four_ways():
    out = ImageClassifierOutputWithNoAttention(logits=3, loss=1)
    assert out.loss == out["loss"] == out[0] == 1
    assert out[1] == out.logits == 3
    assert out.hidden_states is None
    assert "hidden_states" not in out
    assert out.to_tuple() == (1, 3) == out[:2]
    assert list(out) == ["loss", "logits"]
    assert type(out)(out.items()) == out
    with pytest.raises(AttributeError):
        out.attentions  # noqa: B018
    with pytest.raises(TypeError, match="no field"):
        ImageClassifierOutputWithNoAttention(attentions=1)


def test_a_card_says_what_the_hub_and_readers_need():
    config = ConvNextConfig(
        id2label={0: "cat", 1: "dog"}, architectures=["ConvNextForImageClassification"]
    )
    card = model_card(config, "me/pets", licence="MIT")
    head = card.split("---")[1]
    assert "license: mit" in head
    assert "pipeline_tag: image-classification" in head
    assert "library_name: convnext" in head
    assert "cat, dog" in card
    assert 'ConvNextForImageClassification.from_pretrained("me/pets")' in card


def test_a_card_knows_the_licence_of_published_weights():
    config = ConvNextV2Config(architectures=["ConvNextV2Model"], name_or_path="convnextv2_atto")
    assert "license: cc-by-nc-4.0" in model_card(config, "me/atto")
    assert "not stated" in model_card(ConvNextV2Config(), "me/own")


def test_names_are_listed_and_unknown_ones_refused():
    assert {"ConvNextModel", "TFConvNextModel"} <= set(dir(hf))
    with pytest.raises(AttributeError, match="ConvNextForSegmentation"):
        hf.ConvNextForSegmentation  # noqa: B018
