"""What is to be run, and what it can give."""

import pytest

from convnext.errors import ArgumentError


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "logits"),
        ({"num_classes": 0}, "embedding"),
        ({"num_classes": 0, "traits": {"head_hidden": 9}}, "pre_logits"),
        ({"num_classes": 0, "traits": {"head": "none"}}, "stage_3"),
    ],
)
def test_the_default_output_is_the_nearest_to_logits(oracle, options, output):
    network = oracle.network("test_v1", **options)
    assert network.default_output == output
    network.check_outputs((output,))
    if output != "logits":
        with pytest.raises(ArgumentError, match="has no output"):
            network.check_outputs(("logits",))


def test_a_missing_output_is_refused_with_the_reason(oracle):
    with pytest.raises(ArgumentError, match=r"no output 'pre_logits'.*no hidden layer before"):
        oracle.network("test_v1").check_outputs(("logits", "pre_logits"))
    bare = oracle.network("test_v1", num_classes=0, traits={"head": "none"})
    with pytest.raises(ArgumentError, match=r"no output 'tokens'.*which is not there"):
        bare.check_outputs(("tokens",))


def test_vectors_to_compare_with_those_of_texts(oracle):
    linear, hidden = oracle.network("clip"), oracle.network("clip_hidden")
    assert [linear.width(name) for name in ("logits", "embedding", "pre_logits")] == [7, 7, 32]
    assert hidden.width("pre_logits") == 14
    assert linear.default_output == hidden.default_output == "embedding"
    assert [oracle.network("test_v1").width(name) for name in ("embedding", "tokens")] == [32, 32]
