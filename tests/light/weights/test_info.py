"""Facts that ride along: there and back, and what is done about facts that are none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.errors import WeightsFileError
from convnext.images.recipe import Preprocess
from convnext.weights.catalog import CHECKPOINTS
from convnext.weights.info import WeightsInfo

TEXT = st.none() | st.text()
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)
RECIPES = st.builds(
    Preprocess,
    size=st.integers(1, 4096),
    crop_fraction=st.floats(0.1, 1),
    mode=st.sampled_from(["crop", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    mean=st.tuples(NUMBER, NUMBER, NUMBER),
    std=st.tuples(POSITIVE, POSITIVE, POSITIVE),
    rescale=NUMBER,
)


@given(
    st.builds(
        WeightsInfo,
        name=TEXT,
        origin=TEXT,
        licence=TEXT,
        labels=TEXT | st.lists(st.text()).map(tuple),
        preprocess=st.none() | RECIPES,
    )
)
def test_facts_survive_a_round_trip_through_metadata(info):
    metadata = info.to_metadata()
    assert all(type(value) is str for value in metadata.values())
    assert WeightsInfo.from_metadata(metadata) == info


@pytest.mark.parametrize("checkpoint", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_facts_of_a_checkpoint_survive_a_round_trip_through_metadata(checkpoint):
    info = WeightsInfo.of_checkpoint(checkpoint)
    assert (info.licence, info.preprocess) == (checkpoint.licence, checkpoint.preprocess)
    assert WeightsInfo.from_metadata(info.to_metadata()) == info


def test_annotations_of_others_are_passed_over():
    assert WeightsInfo.from_metadata({"format": "pt", "licence": "x"}) == WeightsInfo()


RECIPE = json.loads(WeightsInfo(preprocess=Preprocess()).to_metadata()["convnext.preprocess"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("licence", "MIT"),
        ("licence", "3"),
        ("labels", "[1, 2]"),
        ("labels", '{"0": "cat"}'),
        ("preprocess", "[" * 100_000),
        ("preprocess", "3"),
        ("preprocess", json.dumps(RECIPE | {"size": "224"})),
        ("preprocess", json.dumps(RECIPE | {"size": 0})),
        ("preprocess", json.dumps(RECIPE | {"size": 1_000_000})),
        ("preprocess", json.dumps(RECIPE | {"crop_fraction": 1e-9})),
        ("preprocess", json.dumps(RECIPE | {"std": [1, 1, 0]})),
        ("preprocess", json.dumps(RECIPE | {"mode": "stretch"})),
        ("preprocess", json.dumps(RECIPE | {"std": [1, 2]})),
        ("preprocess", json.dumps(RECIPE | {"rescale": float("nan")})),
        ("preprocess", json.dumps(RECIPE | {"zoom": 1})),
    ],
)
def test_an_annotation_that_cannot_be_parsed_is_an_error(name, text):
    with pytest.raises(
        WeightsFileError, match=f"annotation 'convnext.{name}' cannot be understood"
    ):
        WeightsInfo.from_metadata({f"convnext.{name}": text})
