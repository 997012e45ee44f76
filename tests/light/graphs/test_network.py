"""What is to be run, and what it can give."""

import pytest

from convnext.errors import ArgumentError


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "logits"),
        ({"num_classes": 0}, "embedding"),
        ({"num_classes": 0, "traits": {"head": "none"}}, "stage_3"),
    ],
)
def test_what_is_nearest_to_logits_is_given_by_default(oracle, options, output):
    network = oracle.network("test_v1", **options)
    assert network.default_output == output
    network.check_outputs((output,))
    if output != "logits":
        with pytest.raises(ArgumentError, match="has no output"):
            network.check_outputs(("logits",))
