"""Models that earlier versions of this package saved, loaded by this one."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import convnext.create  # noqa: F401  registers the layers

SAVED = Path(__file__).parent / "saved"


@pytest.mark.parametrize("name", ["saved_by_0.1_v1", "saved_by_0.1_v2"])
def test_a_model_saved_by_an_earlier_version_answers_as_it_did(name):
    model = keras.saving.load_model(SAVED / f"{name}.keras")
    arrays = np.load(SAVED / f"{name}.npz")
    answers = model.predict_on_batch(arrays["pictures"])
    np.testing.assert_allclose(answers, arrays["answers"], rtol=1e-4, atol=1e-6)
    assert model.get_layer("stage_2_block_1").drop_path_rate > 0
