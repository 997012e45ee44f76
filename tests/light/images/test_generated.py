import numpy as np

from convnext.images.generated import generated_pictures


def test_generated_pictures_are_like_pictures():
    made = generated_pictures(8, 96)
    assert made.shape == (8, 96, 96, 3)
    assert made.dtype == np.uint8
    for picture in made.astype(float):
        assert picture.std() > 5
        assert np.abs(np.diff(picture, axis=1)).mean() < picture.std(), "neighbours are alike"
    np.testing.assert_array_equal(generated_pictures(8, 96), made)
    assert (generated_pictures(8, 96, seed=1) != made).any()
