import pytest

from keras_dml._ops import ops
from keras_dml.training import step_decay


def rates(schedule, steps):
    """The learning rate of every step, as an optimizer asks for it."""
    return [float(schedule(ops.convert_to_tensor(step))) for step in range(steps)]


def test_the_papers_recipe_has_sixteen_epochs_at_the_first_rate_and_fifteen_after():
    found = rates(step_decay(0.01, 30, (0.5,), 7, frozen_epochs=1), 31 * 7)
    assert found == pytest.approx([0.01] * 16 * 7 + [0.001] * 15 * 7)


def test_several_decays():
    found = rates(step_decay(1.0, 4, (0.25, 0.75), 2), 8)
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_no_decay():
    assert rates(step_decay(0.5, 3, (), 4), 12) == pytest.approx([0.5] * 12)


def test_a_single_epoch_is_trained_at_the_first_rate():
    found = rates(step_decay(0.5, 1, (0.5,), 3, frozen_epochs=1), 6)
    assert found == pytest.approx([0.5] * 6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be a number above 0; got 0"),
        ({"epochs": 0}, "epochs must be an integer of at least 1; got 0"),
        ({"epochs": True}, "epochs must be an integer of at least 1; got True"),
        ({"epochs": 1.5}, "epochs must be an integer of at least 1; got 1.5"),
        ({"decay_at": (15,)}, r"decay_at must be fractions .* got \(15,\)"),
        ({"decay_at": ("a",)}, r"decay_at must be fractions .* got \('a',\)"),
        ({"decay_at": 0.5}, r"decay_at must be fractions .* such as \(0.5,\); got 0.5"),
        ({"decay_at": (0.75, 0.25)}, "decay_at must be fractions .* and increasing"),
        ({"decay_at": (float("nan"),)}, "decay_at must be fractions"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be .* at least 1; got 0"),
        ({"frozen_epochs": -1}, "frozen_epochs must be .* at least 0; got -1"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    right = {
        "learning_rate": 0.1,
        "epochs": 4,
        "decay_at": (0.5,),
        "steps_per_epoch": 2,
    }
    with pytest.raises(ValueError, match=message):
        step_decay(**right | changed)
