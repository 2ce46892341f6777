import json
import pathlib

import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops
from keras_dml.optimizers import SGD
from tests import fork_server

if IS_KERAS_2:
    from tensorflow import Variable
else:
    from keras import Variable

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("train_on_two_cpus.py")


class PyTorchRule:
    """SGD as PyTorch's documentation writes it, in float64."""

    def __init__(self, values, momentum, weight_decay):
        self.values = [value.astype(np.float64) for value in values]
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffers = [None for _ in values]

    def step(self, gradients, learning_rate):
        for index, gradient in enumerate(gradients):
            gradient = gradient + self.weight_decay * self.values[index]
            if self.momentum:
                if self.buffers[index] is None:
                    self.buffers[index] = gradient
                else:
                    self.buffers[index] = self.momentum * self.buffers[index] + gradient
                gradient = self.buffers[index]
            self.values[index] = self.values[index] - learning_rate * gradient


def start(seed=0):
    """A matrix, a vector and a kernel of a convolution."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=shape).astype("float32") for shape in [(4, 3), 5, (3, 3, 2)]
    ]


def small_model():
    """Batch norm, two dense layers, three classes."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )


def compiled(optimizer):
    """The small model, to be trained with an optimizer."""
    model = small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6)).astype("float32"), np.arange(12) % 3


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_follows_pytorch_while_the_learning_rate_changes(momentum, l2):
    rng = np.random.default_rng(1)
    rule = PyTorchRule(start(), momentum, l2)
    variables = [Variable(value) for value in start()]
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.9)
    optimizer = SGD(schedule, momentum=momentum, l2=l2)
    for step in range(25):
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        rule.step(gradients, 0.1 * 0.9**step)
        optimizer.apply(list(map(ops.convert_to_tensor, gradients)), variables)
        for variable, expected in zip(variables, rule.values, strict=True):
            found = ops.convert_to_numpy(variable)
            np.testing.assert_allclose(found, expected, 1e-6, 2e-6)


def test_hand_worked_steps():
    variable = Variable([1.0])
    optimizer = SGD(0.5, momentum=0.5, l2=0.1)
    # g = 1 + 0.1, v = 1.1, w = 1 - 0.55; g = 1 + 0.045, v = 0.55 + 1.045.
    for learning_rate, expected in [(0.5, 0.45), (0.1, 0.2905)]:
        optimizer.learning_rate = learning_rate
        optimizer.apply([ops.convert_to_tensor([1.0])], [variable])
        np.testing.assert_allclose(ops.convert_to_numpy(variable), [expected], 1e-6)


def test_l2_reaches_every_trained_variable_and_no_other(batch):
    model = compiled(SGD(0.1, l2=0.5))
    frozen = model.layers[0]
    frozen.trainable = False
    model.compile(SGD(0.1, l2=0.5), lambda labels, logits: 0 * ops.sum(logits))
    before = [weight.numpy() for weight in model.trainable_variables]
    untouched = frozen.get_weights()
    model.train_on_batch(*batch)
    assert len(before) == 4
    for weight, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(weight.numpy(), 0.95 * value, 1e-5, 1e-7)
    for weight, value in zip(frozen.get_weights(), untouched, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_rows_of_an_embedding_that_no_one_looked_up_move_too():
    model = keras.Sequential([keras.layers.Embedding(4, 2), keras.layers.Flatten()])
    tokens = np.array([[1, 3], [1, 1]])
    model.build((None, 2))
    (table,) = model.get_weights()
    model.compile(SGD(0.1, momentum=0.9, l2=0.5), lambda y, x: ops.sum(x))
    rule = PyTorchRule([table], 0.9, 0.5)
    counts = np.array([0.0, 3.0, 0.0, 1.0])
    for _ in range(3):
        model.train_on_batch(tokens, np.zeros((2, 4)))
        rule.step([np.stack([counts, counts], -1)], 0.1)
    np.testing.assert_allclose(model.get_weights()[0], rule.values[0], 1e-5, 1e-6)


def test_multiplier_follows_pytorchs_parameter_groups_in_a_compiled_step():
    variables = [Variable(value) for value in start()]
    optimizer = SGD(0.1, momentum=0.9, l2=0.01)
    optimizer.build(variables)
    rules = [PyTorchRule([value], 0.9, 0.01) for value in start()]
    rng = np.random.default_rng(2)
    for step, multiplier in enumerate([0.0, 0.0, 0.5, 0.5, 1.0, 3.0]):
        optimizer.set_multiplier(variables[1:], multiplier)
        gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply(list(map(ops.convert_to_tensor, gradients)), variables)
        for index, (rule, gradient) in enumerate(zip(rules, gradients, strict=True)):
            rule.step([gradient], 0.1 * (multiplier if index else 1))
            found = ops.convert_to_numpy(variables[index])
            np.testing.assert_allclose(found, rule.values[0], 1e-6, 2e-6, str(step))


def test_multiplier_is_followed_by_a_step_that_is_compiled_already(batch):
    model = compiled(SGD(0.1, momentum=0.9))
    model.train_on_batch(*batch)
    still, moving = model.layers[0], model.layers[-1]
    model.optimizer.set_multiplier(still.trainable_variables, 0)
    before = model.get_weights()
    model.train_on_batch(*batch)
    after = model.get_weights()
    np.testing.assert_array_equal(after[0], before[0])
    assert np.abs(after[-2] - before[-2]).min() > 0
    model.optimizer.set_multiplier(still.trainable_variables, 1)
    model.train_on_batch(*batch)
    assert np.abs(model.get_weights()[0] - before[0]).max() > 0
    assert moving.trainable


def test_multipliers_are_saved_with_the_model(tmp_path, batch):
    model = compiled(SGD(0.1))
    model.train_on_batch(*batch)
    model.optimizer.set_multiplier(model.layers[0].trainable_variables, 0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    found = ops.convert_to_numpy(loaded.optimizer.multipliers)
    np.testing.assert_array_equal(found, [0.25, 0.25, 1, 1, 1, 1])


def test_reset_momentum_starts_as_a_new_optimizer():
    optimizer = SGD(0.1, momentum=0.9, l2=0.01)
    variables = [Variable(value) for value in start()]
    rng = np.random.default_rng(3)
    gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
    for _ in range(3):
        optimizer.apply(list(map(ops.convert_to_tensor, gradients)), variables)
    rule = PyTorchRule([ops.convert_to_numpy(v) for v in variables], 0.9, 0.01)
    optimizer.reset_momentum()
    for _ in range(2):
        optimizer.apply(list(map(ops.convert_to_tensor, gradients)), variables)
        rule.step(gradients, 0.1)
    for variable, expected in zip(variables, rule.values, strict=True):
        found = ops.convert_to_numpy(variable)
        np.testing.assert_allclose(found, expected, 1e-6, 2e-6)


def test_multiplier_of_a_variable_that_is_not_trained_is_refused():
    optimizer = SGD(0.1)
    variable = Variable([1.0], name="mine")
    with pytest.raises(ValueError, match=r"call `optimizer\.build"):
        optimizer.set_multiplier([variable], 0)
    optimizer.build([variable])
    with pytest.raises(ValueError, match="does not train stranger"):
        optimizer.set_multiplier([variable, Variable([1.0], name="stranger")], 0)
    np.testing.assert_array_equal(ops.convert_to_numpy(optimizer.multipliers), [1.0])
    for wrong in (-1, float("nan")):
        with pytest.raises(
            ValueError, match=f"multiplier must .*at least 0; got {wrong}"
        ):
            optimizer.set_multiplier([variable], wrong)


def test_keras_arguments_still_work():
    variable = Variable([0.0, 0.0])
    optimizer = SGD(1.0, clipnorm=1.0, name="clipped")
    optimizer.apply([ops.convert_to_tensor([3.0, 4.0])], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), [-0.6, -0.8], 1e-6)
    assert optimizer.name == "clipped"


@pytest.mark.parametrize(
    "learning_rate", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 10)]
)
def test_configuration_round_trip(learning_rate):
    optimizer = SGD(learning_rate, momentum=np.float32(0.5), l2=np.float64(0.25))
    config = json.loads(json.dumps(optimizer.get_config()))
    assert "weight_decay" not in config
    again = SGD.from_config(config)
    assert again.get_config() == optimizer.get_config()
    assert (again.momentum, again.l2) == (0.5, 0.25)
    described = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    found = keras.optimizers.deserialize(described)
    assert type(found) is SGD
    assert found.get_config() == optimizer.get_config()


def test_saved_model_continues_as_if_never_stopped(tmp_path, batch):
    model = compiled(
        SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.8), 0.9, 1e-3)
    )
    for _ in range(4):
        model.train_on_batch(*batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is SGD
    assert int(loaded.optimizer.iterations) == 4
    velocities = [v.numpy() for v in model.optimizer.velocities]
    assert len(velocities) == 6
    assert all(v.any() for v in velocities[:2])
    for velocity, expected in zip(loaded.optimizer.velocities, velocities, strict=True):
        np.testing.assert_array_equal(velocity.numpy(), expected)
    for _ in range(4):
        model.train_on_batch(*batch)
        loaded.train_on_batch(*batch)
    for weight, expected in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_float32_weights(policy, batch):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = compiled(SGD(0.1, momentum=0.9, l2=1e-4))
    finally:
        keras.mixed_precision.set_global_policy(before)
    scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    losses = [float(model.train_on_batch(*batch)) for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]
    for weight in model.get_weights():
        assert weight.dtype == np.float32
        assert np.isfinite(weight).all()


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's"
)
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("float32", 1e-5), ("mixed_bfloat16", 5e-3), ("mixed_float16", 1e-3)],
)
def test_two_replicas_train_as_one_device_does(policy, tolerance):
    finished = fork_server.run_file(PROGRAM, policy)
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout
    result = json.loads(printed.splitlines()[-1])
    assert result["replicas"] == 2
    assert result["trunk_moved_while_frozen"] == 0
    assert result["classes_moved_while_frozen"] > 0.1
    assert result["trunk_moved_after"] > 0.1
    assert result["apart"] < tolerance


@pytest.mark.parametrize(
    "make",
    [
        lambda model: model,
        lambda model: model.layers[-1],
        lambda model: model.trainable_variables[0],
        lambda model: model.get_weights(),
        lambda model: model.get_weights()[0],
        lambda model: [model.layers[-1]],
        lambda model: "lower",
        lambda model: None,
    ],
    ids=["model", "layer", "variable", "arrays", "array", "layers", "name", "none"],
)
def test_what_is_no_list_of_variables_is_refused(make):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = SGD(0.1)
    optimizer.build(model.trainable_variables)
    message = r"variables must be a list .*such as trunk\.trainable_variables.*; got "
    with pytest.raises(ValueError, match=message):
        optimizer.set_multiplier(make(model), 0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.freeze(make(model))


@pytest.mark.parametrize("learning_rate", [0, -0.1, float("nan"), True])
def test_learning_rate_out_of_range_is_refused(learning_rate):
    with pytest.raises(ValueError, match=f"rate must .*above 0.*got {learning_rate}"):
        SGD(learning_rate)


@pytest.mark.parametrize("momentum", [-0.1, 1, 1.5, float("nan")])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(
        ValueError, match=f"momentum must .*at least 0 .*got {momentum}"
    ):
        SGD(0.1, momentum=momentum)


@pytest.mark.parametrize("l2", [-1e-4, float("nan")])
def test_l2_out_of_range_is_refused(l2):
    with pytest.raises(ValueError, match=f"l2 must .*at least 0.*got {l2}"):
        SGD(0.1, l2=l2)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
def test_weight_decay_is_refused(weight_decay):
    with pytest.raises(ValueError, match=r"weight_decay is Keras's.*use l2"):
        SGD(0.1, weight_decay=weight_decay)


@pytest.mark.skipif(
    IS_KERAS_2 or keras.backend.backend() != "tensorflow",
    reason="variables are updated by row on Keras 3 with TensorFlow",
)
class TestUpdatesByRow:
    """The rule for a variable whose layer has set `updates_by_row`."""

    def optimizer_and_matrix(self, rows=6, l2=0.5):
        """A built optimizer, and the matrix that it trains."""
        values = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
        matrix = keras.Variable(values)
        matrix.updates_by_row = True
        optimizer = SGD(0.1, momentum=0.9, l2=l2)
        optimizer.build([matrix])
        return optimizer, matrix

    def gradient(self, rows, rng):
        """A sparse gradient, and the same as {row: sum}."""
        import tensorflow as tf

        values = rng.normal(size=(len(rows), 3)).astype("float32")
        sums = {row: values[np.equal(rows, row)].sum(0) for row in rows}
        return tf.IndexedSlices(values, tf.constant(rows)), sums

    @pytest.mark.parametrize("l2", [0.0, 0.5])
    def test_rows_end_where_pytorchs_rule_for_all_rows_in_all_steps_puts_them(self, l2):
        optimizer, matrix = self.optimizer_and_matrix(l2=l2)
        start = keras.ops.convert_to_numpy(matrix)
        rules = [PyTorchRule([row], 0.9, l2) for row in start]
        rng = np.random.default_rng(1)
        steps = ([4, 1], [1, 1, 5], [0, 4, 4, 4], [1], [5, 0], [5], [0, 1, 4])
        for rows in steps:
            gradient, sums = self.gradient(rows, rng)
            optimizer.apply([gradient], [matrix])
            for row, rule in enumerate(rules):
                rule.weight_decay = l2 if row in sums else 0
                rule.step([sums.get(row, np.zeros(3))], 0.1)
        found = keras.ops.convert_to_numpy(matrix)
        for row in (0, 1, 4):  # the rows of the last step
            np.testing.assert_allclose(found[row], rules[row].values[0], 1e-5, 1e-6)
        np.testing.assert_array_equal(found[[2, 3]], start[[2, 3]])
        # Row 5 was skipped once, and lacks a step of its momentum.
        lag = 0.1 * rules[5].buffers[0]
        np.testing.assert_allclose(found[5] - lag, rules[5].values[0], 1e-5, 1e-6)

    @pytest.mark.parametrize("change", ["freeze", "reset", "neither"])
    def test_a_freeze_or_a_reset_in_between_applies_the_skipped_steps_first(
        self, change
    ):
        optimizer, matrix = self.optimizer_and_matrix(l2=0)
        rules = [PyTorchRule([row], 0.9, 0) for row in ops.convert_to_numpy(matrix)]
        rng = np.random.default_rng(1)

        def train(steps, rate):
            for rows in steps:
                gradient, sums = self.gradient(rows, rng)
                optimizer.apply([gradient], [matrix])
                for row, rule in enumerate(rules):
                    rule.step([sums.get(row, np.zeros(3))], rate)

        train([[0, 1, 2, 3], [4, 5], [2]], 0.1)
        if change == "freeze":
            optimizer.set_multiplier([matrix], 0)
            train([[0], [0, 3], [0]], 0)
            optimizer.set_multiplier([matrix], 1)
        elif change == "reset":
            optimizer.reset_momentum()
            for rule in rules:
                rule.buffers = [None]
        train([[1], [2], [0, 1, 2, 3, 4, 5]], 0.1)
        expected = np.concatenate([rule.values for rule in rules])
        np.testing.assert_allclose(ops.convert_to_numpy(matrix), expected, 1e-5, 1e-5)

    def test_dense_steps_before_count_as_steps_of_every_row(self):
        optimizer, matrix = self.optimizer_and_matrix(l2=0)
        rule = PyTorchRule([ops.convert_to_numpy(matrix)], 0.9, 0)
        rng = np.random.default_rng(1)
        for _ in range(3):
            dense = rng.normal(size=(6, 3)).astype("float32")
            optimizer.apply([ops.convert_to_tensor(dense)], [matrix])
            rule.step([dense], 0.1)
        gradient, sums = self.gradient(range(6), rng)
        optimizer.apply([gradient], [matrix])
        rule.step([np.stack([sums[row] for row in range(6)])], 0.1)
        np.testing.assert_allclose(
            ops.convert_to_numpy(matrix), rule.values[0], 1e-5, 1e-5
        )

    def test_iterations_that_are_set_back_do_no_harm(self):
        optimizer, matrix = self.optimizer_and_matrix(l2=0)
        rng = np.random.default_rng(1)
        for step in range(60):
            if step == 40:
                optimizer.iterations.assign(0)
            gradient, _ = self.gradient([step % 6], rng)
            optimizer.apply([gradient], [matrix])
        # Ten gradients a row, each of which moves it by at most ten learning rates.
        assert np.abs(ops.convert_to_numpy(matrix)).max() < 3 + 10 * 10 * 0.1 * 3

    def test_equals_the_dense_rule_where_every_step_updates_every_row(self):
        optimizer, matrix = self.optimizer_and_matrix()
        rule = PyTorchRule([keras.ops.convert_to_numpy(matrix)], 0.9, 0.5)
        rng = np.random.default_rng(2)
        for _ in range(10):
            gradient, sums = self.gradient(rng.permutation(6), rng)
            optimizer.apply([gradient], [matrix])
            rule.step([np.stack([sums[row] for row in range(6)])], 0.1)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(matrix), rule.values[0], 1e-5, 1e-6
        )

    def test_the_multiplier_holds_for_rows_too(self):
        optimizer, matrix = self.optimizer_and_matrix()
        start = keras.ops.convert_to_numpy(matrix)
        optimizer.set_multiplier([matrix], 0)
        gradient, _ = self.gradient([1, 2], np.random.default_rng(3))
        optimizer.apply([gradient], [matrix])
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(matrix), start)

    def test_a_dense_gradient_moves_every_row(self):
        optimizer, matrix = self.optimizer_and_matrix()
        start = keras.ops.convert_to_numpy(matrix)
        optimizer.apply([keras.ops.zeros((6, 3))], [matrix])
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(matrix), 0.95 * start, 1e-6
        )
