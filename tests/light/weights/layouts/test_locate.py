"""What stands before the names, what stands beside the model, and two models in one file."""

import pytest

from convnext.errors import WeightsMismatchError
from convnext.weights.canonical import parameter_shapes
from convnext.weights.layouts import recognise, to_canonical, to_foreign


@pytest.fixture
def checkpoint(odd_variant, numbered):
    """A V2 classifier in a layout, and the same in ours."""

    def make(layout="facebook", family="v2"):
        variant = odd_variant(family)
        ours = numbered(parameter_shapes(variant, 4))
        return to_foreign(ours, layout, variant), ours

    return make


def under(prefix, tensors):
    return {prefix + name: array for name, array in tensors.items()}


@pytest.mark.parametrize("prefix", ["model.", "module.", "state_dict.model.backbone.", "a.b.c."])
@pytest.mark.parametrize("layout", ["facebook", "timm", "huggingface", "kecam", "convnext"])
def test_any_prefix_is_taken_off(layout, prefix, checkpoint, same_weights):
    theirs, ours = checkpoint(layout)
    if layout == "kecam":
        prefix = prefix.replace(".", "/")
    same_weights(to_canonical(under(prefix, theirs)), ours)


def test_a_keras_model_may_have_any_name(checkpoint, same_weights):
    theirs, ours = checkpoint("keras_applications", "v1")
    renamed = {name.replace("convnext_custom", "my_net_2"): a for name, a in theirs.items()}
    same_weights(to_canonical(renamed), ours)


@pytest.mark.parametrize(
    ("own", "average"),
    [
        ("model.", "model_ema."),
        ("state_dict.", "state_dict_ema."),
        ("model.module.", "ema_model.module."),
        ("", "model_ema."),
    ],
)
def test_the_model_is_read_where_its_moving_average_is_there_too(
    own, average, checkpoint, same_weights
):
    theirs, ours = checkpoint()
    averaged = {name: array + 1 for name, array in theirs.items()}
    for both in (
        under(own, theirs) | under(average, averaged),
        under(average, averaged) | under(own, theirs),
    ):
        same_weights(to_canonical(both), ours)
        ignored = recognise({name: array.shape for name, array in both.items()}).ignored
        assert set(ignored) == set(under(average, averaged))


def test_an_average_alone_is_read(checkpoint, same_weights):
    theirs, ours = checkpoint()
    same_weights(to_canonical(under("model_ema.", theirs)), ours)


def test_two_models_are_an_error_that_names_both(checkpoint):
    theirs, _ = checkpoint()
    with pytest.raises(WeightsMismatchError, match=r"2 models, under 'student\.', 'teacher\.'"):
        to_canonical(under("student.", theirs) | under("teacher.", theirs))


@pytest.mark.parametrize(
    "name",
    [
        "optimizer.state.0.exp_avg",
        "optimizer_states.0",
        "scaler._scale",
        "epoch",
        "lr_schedulers.0.last_epoch",
        "args.lr",
        "save_counter",
        "norm.num_batches_tracked",
    ],
)
def test_training_state_is_ignored_and_reported(name, checkpoint, numbered, same_weights):
    theirs, ours = checkpoint()
    both = under("model.", theirs) | numbered({name: (2, 3)})
    same_weights(to_canonical(both), ours)
    assert recognise({name: array.shape for name, array in both.items()}).ignored == (name,)


def test_unknown_tensors_are_left_over(checkpoint, numbered):
    theirs, _ = checkpoint()
    extra = numbered({"model.adapter.weight": (2, 3)})
    with pytest.raises(WeightsMismatchError, match=r"left over \(1\):\n    model\.adapter\.weight"):
        to_canonical(under("model.", theirs) | extra)


def test_the_head_of_a_detector_is_ignored_beside_its_backbone(checkpoint, numbered, same_weights):
    theirs, ours = checkpoint()
    detector = under("backbone.", theirs) | numbered({"decode_head.conv.weight": (2, 3)})
    same_weights(to_canonical(detector), ours)
    with pytest.raises(WeightsMismatchError, match="decode_head"):
        to_canonical(theirs | numbered({"decode_head.conv.weight": (2, 3)}))


def test_a_tensor_that_is_there_twice_is_an_error(checkpoint):
    theirs, _ = checkpoint("huggingface")
    twice = under("model.", theirs) | {"classifier.weight": theirs["classifier.weight"]}
    with pytest.raises(WeightsMismatchError, match=r"'classifier\.weight' twice"):
        to_canonical(twice)
