import keras
import pytest

from convnext.train import train
from convnext.train.optim import precision
from convnext.train.optim.precision import actual_precision, with_actual_precision
from convnext.train.recipe import PretrainingRecipe, load_recipe, published_recipes

ON_JAX = keras.backend.backend() == "jax"


@pytest.fixture
def flags(monkeypatch):
    """A processor that has these."""

    def use(*found):
        monkeypatch.setattr(precision, "processor_flags", lambda: frozenset(found))

    return use


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_auto_is_bfloat16_where_the_processor_has_it_and_the_backend_gains(flags, flag):
    flags("avx2", flag)
    assert actual_precision("auto") == ("float32" if ON_JAX else "bfloat16")


def test_auto_is_float32_on_other_processors(flags):
    flags("avx2", "avx512f")
    assert actual_precision("auto") == "float32"


def test_a_precision_that_the_processor_has_is_used(flags, recwarn):
    flags("amx_bf16")
    assert actual_precision("float32") == "float32"
    assert actual_precision("bfloat16") == "bfloat16"
    assert not recwarn


def test_bfloat16_in_software_is_warned_of(flags, recwarn):
    flags("avx2")
    assert actual_precision("bfloat16") == "bfloat16"
    assert [str(w.message).startswith("This processor has no") for w in recwarn] == [True] * (
        not ON_JAX
    )


@pytest.mark.torch_alone
@pytest.mark.parametrize("kind", [None, PretrainingRecipe])
def test_every_recipe_runs_in_a_precision_that_is_there(flags, kind):
    flags()
    of_kind = {} if kind is None else {"kind": kind}
    for name in published_recipes(*of_kind.values()):
        recipe = load_recipe(name, **of_kind)
        assert with_actual_precision(recipe).run.precision == "float32"
        assert with_actual_precision(recipe).model == recipe.model


@pytest.mark.torch_alone
def test_a_run_says_which_it_was(flags, class_folders, tmp_path):
    flags()
    changes = ["model.variant=test_v2", "data.limit=20", "run.batch_size=10", "run.epochs=1"]
    run = tmp_path / "run"
    train("cifar10", class_folders, run, changes=changes, workers=0)
    assert 'precision = "float32"' in (run / "recipe.toml").read_text()
