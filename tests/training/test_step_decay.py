import keras
import pytest

from keras_dml.training import step_decay


def rates(schedule, steps):
    """The learning rate of every step, as an optimiser asks for it."""
    return [float(schedule(keras.ops.convert_to_tensor(step))) for step in range(steps)]


def test_the_papers_recipe_has_sixteen_epochs_at_the_first_rate_and_fifteen_after():
    found = rates(step_decay(0.01, 30, (0.5,), 7, warm_up_epochs=1), 31 * 7)
    assert found == pytest.approx([0.01] * 16 * 7 + [0.001] * 15 * 7)


def test_several_decays():
    found = rates(step_decay(1.0, 4, (0.25, 0.75), 2), 8)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_no_decay():
    assert rates(step_decay(0.5, 3, (), 4), 12) == pytest.approx([0.5] * 12)
