import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.layers import CenterMerging
from keras_dml.layers import Proxies


def distances_within_classes(weights, centers):
    """The distances of all pairs of a class's centers, scaled to length 1."""
    units = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    found = []
    for start in range(0, len(units), centers):
        of_class = units[start : start + centers]
        for s in range(centers):
            found += [np.linalg.norm(of_class[s] - c) for c in of_class[s + 1 :]]
    return found


@pytest.mark.parametrize(("classes", "centers"), [(1, 2), (4, 3), (2, 10)])
def test_is_the_mean_distance_of_the_centers_of_a_class_over_two(classes, centers):
    weights = np.random.default_rng(0).normal(size=(classes * centers, 5))
    value = CenterMerging(0.3, centers)(weights.astype("float32"))
    # C K (K - 1) / 2 pairs; the paper divides by C K (K - 1).
    expected = 0.3 * np.mean(distances_within_classes(weights, centers)) / 2
    assert float(ops.convert_to_numpy(value)) == pytest.approx(expected, rel=1e-5)


def test_centers_at_one_point_cost_nothing():
    weights = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 4, axis=0)
    assert float(CenterMerging(1.0, 4)(weights.astype("float32"))) == 0


def test_training_draws_centers_together():
    keras.utils.set_random_seed(0)
    layer = Proxies(
        3, centers=4, class_weights_regularizer=CenterMerging(100.0, centers=4)
    )
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = np.mean(distances_within_classes(layer.get_weights()[0], 4))
    model.fit(np.zeros((8, 5)), np.zeros((8, 3)), 8, epochs=30, verbose=0)
    after = np.mean(distances_within_classes(layer.get_weights()[0], 4))
    assert after < 0.8 * before


def test_is_saved_with_its_layer():
    layer = Proxies(3, centers=4, class_weights_regularizer=CenterMerging(0.3, 4))
    again = Proxies.from_config(layer.get_config()).class_weights_regularizer
    assert isinstance(again, CenterMerging)
    assert again.get_config() == {"rate": 0.3, "centers": 4}


@pytest.mark.parametrize(("name", "value"), [("rate", -0.1), ("centers", 1)])
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        CenterMerging(**{name: value})


def test_rows_that_are_no_multiple_are_refused():
    with pytest.raises(ValueError, match="multiple of 3 rows; got 7"):
        CenterMerging(centers=3)(np.ones((7, 2), "float32"))
