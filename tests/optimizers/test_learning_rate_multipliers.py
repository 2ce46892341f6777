import contextlib
import json

import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml.optimizers import SGD
from keras_dml.optimizers import LearningRateMultipliers

if IS_KERAS_2:
    pytest.skip("LearningRateMultipliers needs Keras 3", allow_module_level=True)

from keras import ops
from keras import optimizers as of_keras

torch = pytest.importorskip("torch")

TINY = 1e-12  # as Keras and PyTorch add epsilon in different places

TWINS = {
    "sgd": (
        lambda: of_keras.SGD(0.1),
        lambda groups: torch.optim.SGD(groups, 0.1),
    ),
    "momentum": (
        lambda: of_keras.SGD(0.1, momentum=0.9),
        lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9),
    ),
    "nesterov": (
        lambda: of_keras.SGD(0.1, momentum=0.9, nesterov=True),
        lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9, nesterov=True),
    ),
    "adam": (
        lambda: of_keras.Adam(0.1, epsilon=TINY),
        lambda groups: torch.optim.Adam(groups, 0.1, eps=TINY),
    ),
    "adamw": (
        lambda: of_keras.AdamW(0.1, weight_decay=0.5, epsilon=TINY),
        lambda groups: torch.optim.AdamW(groups, 0.1, weight_decay=0.5, eps=TINY),
    ),
    "amsgrad": (
        lambda: of_keras.AdamW(0.1, weight_decay=0.1, amsgrad=True, epsilon=TINY),
        lambda groups: torch.optim.AdamW(
            groups, 0.1, weight_decay=0.1, amsgrad=True, eps=TINY
        ),
    ),
    "adamax": (
        lambda: of_keras.Adamax(0.1, epsilon=TINY),
        lambda groups: torch.optim.Adamax(groups, 0.1, eps=TINY),
    ),
    "nadam": (
        lambda: of_keras.Nadam(0.1, epsilon=TINY),
        lambda groups: torch.optim.NAdam(groups, 0.1, momentum_decay=1, eps=TINY),
    ),
    "adagrad": (
        lambda: of_keras.Adagrad(0.1),
        lambda groups: torch.optim.Adagrad(groups, 0.1, initial_accumulator_value=0.1),
    ),
    "rmsprop": (
        lambda: of_keras.RMSprop(0.1, epsilon=TINY),
        lambda groups: torch.optim.RMSprop(groups, 0.1, alpha=0.9, eps=TINY),
    ),
    "adadelta": (
        lambda: of_keras.Adadelta(1.0, epsilon=1e-6),
        lambda groups: torch.optim.Adadelta(groups, 1.0, rho=0.95, eps=1e-6),
    ),
}
"""Optimizers of Keras with those of PyTorch that follow the same rule."""

ANY_OTHER = {
    "lion": lambda rate: of_keras.Lion(rate, weight_decay=0.1),
    "lamb": lambda rate: of_keras.Lamb(rate),
    "adafactor": lambda rate: of_keras.Adafactor(rate),
    "adam": lambda rate: of_keras.Adam(rate, weight_decay=0.1),
    "clipped": lambda rate: of_keras.SGD(rate, momentum=0.9, clipvalue=0.5),
    **{
        name.lower(): lambda rate, name=name: getattr(of_keras, name)(rate)
        for name in ("Muon", "ScheduleFreeAdamW")
        if hasattr(of_keras, name)  # from Keras 3.11 and 3.13
    },
}
"""Optimizers that PyTorch has not, or with arguments that are Keras's own."""


def start(seed=0):
    """Values of a matrix, a vector and a kernel."""
    rng = np.random.default_rng(seed)
    shapes = [(4, 3), (5,), (3, 3, 2)]
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def gradients(steps, seed=1):
    """A list of gradients for each step."""
    return [[g * 2 for g in start(seed + step)] for step in range(steps)]


def step(optimizer, variables, values):
    optimizer.apply(list(map(ops.convert_to_tensor, values)), variables)


def torch_step(optimizer, parameters, values):
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(value)
    optimizer.step()


def grouped(parameters, factory):
    """PyTorch's optimizer with a group for each parameter."""
    return factory([{"params": [parameter]} for parameter in parameters])


def assert_same(variables, parameters, case=""):
    for variable, parameter in zip(variables, parameters, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable),
            parameter.detach().numpy(),
            rtol=2e-5,
            atol=2e-5,
            err_msg=str(case),
        )


@pytest.mark.parametrize("name", TWINS)
def test_follows_pytorchs_parameter_groups(name):
    make, factory = TWINS[name]
    variables = [keras.Variable(value) for value in start()]
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
    optimizer, twin = LearningRateMultipliers(make()), grouped(parameters, factory)
    optimizer.build(variables)
    for index, multiplier in enumerate((0.25, 1.0, 2.0)):
        optimizer.set_multiplier([variables[index]], multiplier)
        twin.param_groups[index]["lr"] *= multiplier
    for number, values in enumerate(gradients(12)):
        step(optimizer, variables, values)
        torch_step(twin, parameters, values)
        assert_same(variables, parameters, number)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_multipliers_that_change_follow_pytorch_and_0_stands_still(name):
    make, factory = TWINS[name]
    variables = [keras.Variable(value) for value in start()]
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
    optimizer, twin = LearningRateMultipliers(make()), grouped(parameters, factory)
    optimizer.build(variables)
    rate = twin.param_groups[0]["lr"]
    multipliers = [0, 0, 0.5, 0.5, 0, 1, 3]
    for multiplier, values in zip(multipliers, gradients(7), strict=True):
        optimizer.set_multiplier(variables[1:], multiplier)
        for group in twin.param_groups[1:]:
            group["lr"] = rate * multiplier
        before = ops.convert_to_numpy(variables[1]).copy()
        step(optimizer, variables, values)
        torch_step(twin, parameters, values)
        assert_same(variables, parameters, multiplier)
        stood = np.array_equal(ops.convert_to_numpy(variables[1]), before)
        assert stood == (multiplier == 0)


@pytest.mark.parametrize("name", ANY_OTHER)
def test_multiplier_is_as_another_learning_rate_for_any_optimizer(name):
    variables = [keras.Variable(value) for value in start()]
    optimizer = LearningRateMultipliers(ANY_OTHER[name](0.1))
    optimizer.build(variables)
    optimizer.set_multiplier(variables[1:2], 0.3)
    optimizer.set_multiplier(variables[2:], 0)
    whole = [keras.Variable(value) for value in start()]
    part = [keras.Variable(value) for value in start()]
    of_whole, of_part = ANY_OTHER[name](0.1), ANY_OTHER[name](0.03)
    for values in gradients(5):
        step(optimizer, variables, values)
        step(of_whole, whole, values)
        step(of_part, part, values)
    expected = (whole[0], part[1], start()[2])
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), ops.convert_to_numpy(value), 1e-5, 1e-6
        )


@pytest.mark.parametrize("name", ["sgd", "adamw", "nadam", "adagrad", "amsgrad"])
def test_reset_momentum_goes_on_as_a_new_optimizer_of_pytorch(name):
    make, factory = TWINS[name]
    variables = [keras.Variable(value) for value in start()]
    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start()]
    rate = keras.optimizers.schedules.ExponentialDecay(
        grouped(parameters, factory).param_groups[0]["lr"], 1, 0.9
    )
    inner = make()
    inner.learning_rate = rate
    optimizer = LearningRateMultipliers(inner)
    optimizer.build(variables)
    for number, values in enumerate(gradients(10)):
        if number in (0, 6):
            optimizer.reset_momentum()
            twin = grouped(parameters, factory)
        for group in twin.param_groups:
            group["lr"] = float(rate(number))
        step(optimizer, variables, values)
        torch_step(twin, parameters, values)
        assert int(optimizer.iterations) == number + 1
        assert_same(variables, parameters, number)


@contextlib.contextmanager
def under(policy):
    """As Keras is with a policy of mixed precision."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def small_model(optimizer, policy="float32"):
    """Two dense layers with a batch norm between, three classes."""
    with under(policy):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, name="lower"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.ReLU(),
                keras.layers.Dense(3, dtype="float32", name="upper"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss)
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6)).astype("float32"), np.arange(12) % 3


def train(model, batch, epochs=1):
    model.fit(*batch, batch_size=4, epochs=epochs, shuffle=False, verbose=0)


POLICIES = ["float32", "mixed_bfloat16", "mixed_float16"]


@pytest.mark.parametrize("policy", POLICIES)
def test_compiled_step_follows_a_multiplier_set_later(policy, batch):
    optimizer = LearningRateMultipliers(of_keras.AdamW(0.01))
    model = small_model(optimizer, policy)
    train(model, batch)
    lower, upper = model.get_layer("lower"), model.get_layer("upper")
    for multiplier in (0, 1, 0):
        optimizer.set_multiplier(lower.trainable_variables, multiplier)
        before = [lower.get_weights(), upper.get_weights()]
        train(model, batch)
        for weights, value in zip(lower.get_weights(), before[0], strict=True):
            assert np.array_equal(weights, value) == (multiplier == 0)
        assert np.abs(upper.get_weights()[0] - before[1][0]).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_saved_model_goes_on_with_multipliers_momentum_and_schedule(
    policy, batch, tmp_path
):
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, 20, warmup_target=0.1, warmup_steps=3
    )
    optimizer = LearningRateMultipliers(of_keras.AdamW(rate, weight_decay=0.01))
    model = small_model(optimizer, policy)
    train(model, batch)
    optimizer.set_multiplier(model.get_layer("lower").trainable_variables, 0.25)
    optimizer.reset_momentum()
    train(model, batch)
    model.save(tmp_path / "model.keras")
    with under(policy):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    scaled = policy == "mixed_float16"
    inner = loaded.optimizer.inner_optimizer if scaled else loaded.optimizer
    assert type(inner) is LearningRateMultipliers
    assert isinstance(inner.inner_optimizer, of_keras.AdamW)
    found = ops.convert_to_numpy(inner.multipliers)
    np.testing.assert_array_equal(found, [0.25, 0.25, 1, 1, 1, 1])
    assert int(inner.iterations) == 6
    assert float(inner.learning_rate) == pytest.approx(float(rate(6)))
    model.save_weights(tmp_path / "model.weights.h5")
    again = small_model(
        LearningRateMultipliers(of_keras.AdamW(rate, weight_decay=0.01)), policy
    )
    again.optimizer.build(again.trainable_variables)
    again.load_weights(tmp_path / "model.weights.h5")
    for other in (model, loaded, again):
        train(other, batch, 2)
    for other in (loaded, again):
        for weight, value in zip(other.weights, model.weights, strict=True):
            np.testing.assert_allclose(
                ops.convert_to_numpy(weight), ops.convert_to_numpy(value), 1e-6, 1e-7
            )


def test_multipliers_of_1_change_nothing(batch):
    plain = small_model(of_keras.AdamW(0.01, use_ema=True, global_clipnorm=1.0))
    wrapped = small_model(
        LearningRateMultipliers(of_keras.AdamW(0.01, use_ema=True, global_clipnorm=1.0))
    )
    for model in (plain, wrapped):
        train(model, batch, 3)
    for weight, value in zip(wrapped.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, value, 1e-6, 1e-7)


def test_accumulated_gradients_step_with_their_multipliers():
    values = gradients(6)
    variables = [keras.Variable(value) for value in start()]
    optimizer = LearningRateMultipliers(
        of_keras.SGD(0.1, gradient_accumulation_steps=2)
    )
    optimizer.build(variables)
    optimizer.set_multiplier(variables[1:], 0.5)
    for one in values:
        step(optimizer, variables, one)
    for index, variable in enumerate(variables):
        total = sum(one[index] / 2 for one in values)
        expected = start()[index] - 0.1 * (0.5 if index else 1) * total
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, 1e-5, 1e-5)


def test_steps_of_accumulated_gradients_are_counted_as_keras_counts_them(batch):
    found = []
    for wrap in (LearningRateMultipliers, lambda optimizer: optimizer):
        model = small_model(wrap(of_keras.SGD(0.1, gradient_accumulation_steps=3)))
        train(model, batch, 2)
        found.append(int(model.optimizer.iterations))
    assert found == [2, 2]


def test_settings_are_those_of_the_optimizer_inside():
    inner = of_keras.AdamW(
        0.1, weight_decay=0.3, beta_1=0.8, use_ema=True, clipnorm=2.0
    )
    optimizer = LearningRateMultipliers(inner)
    for name, value in inner.get_config().items():
        if name not in ("name", "learning_rate"):
            assert getattr(optimizer, name) == value, name
    optimizer.weight_decay = 0.4
    assert inner.weight_decay == 0.4
    with pytest.raises(AttributeError, match="momentum"):
        optimizer.momentum  # noqa: B018 - AdamW has none


def test_optimizer_inside_stays_usable_alone(batch):
    rate = keras.optimizers.schedules.PolynomialDecay(0.1, 20, 0.0)
    inner, alone = of_keras.AdamW(rate), of_keras.AdamW(rate)
    model, plain = small_model(LearningRateMultipliers(inner)), small_model(alone)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for epochs in (1, 2):
        train(model, batch)
        train(plain, batch)
        assert int(inner.iterations) == 3 * epochs
        expected = 0.1 * (1 - 3 * epochs / 20)
        assert float(inner.learning_rate) == pytest.approx(expected)
        model.compile(inner, loss)
    for weight, value in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, value, 1e-5, 1e-6)
    again = of_keras.AdamW.from_config(inner.get_config())
    assert again.get_config() == alone.get_config() | {"name": inner.name}


def test_learning_rate_set_on_either_holds_for_both():
    inner = of_keras.SGD(0.1)
    optimizer = LearningRateMultipliers(inner)
    variables = [keras.Variable(value) for value in start()]
    optimizer.build(variables)
    total = 0
    for owner, rate in ((inner, 0.5), (optimizer, 0.25)):
        owner.learning_rate = rate
        assert float(inner.learning_rate) == float(optimizer.learning_rate) == rate
        step(optimizer, variables, [np.ones_like(value) for value in start()])
        total += rate
    inner.learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [7.0, 0.125]
    )
    step(optimizer, variables, [np.ones_like(value) for value in start()])
    total += 0.125
    for variable, value in zip(variables, start(), strict=True):
        found = ops.convert_to_numpy(variable)
        np.testing.assert_allclose(found, value - total, 1e-5, 1e-5)


def test_reset_momentum_begins_moving_averages_anew_at_the_next_step():
    variables = [keras.Variable(value) for value in start()]
    optimizer = LearningRateMultipliers(
        of_keras.SGD(0.1, use_ema=True, ema_momentum=0.75)
    )
    optimizer.build(variables)
    averages, values = None, start()
    for number, gradient in enumerate(gradients(6)):
        if number == 3:
            optimizer.reset_momentum()
        step(optimizer, variables, gradient)
        values = [v - 0.1 * g for v, g in zip(values, gradient, strict=True)]
        if number in (0, 3):
            averages = values
        averages = [0.75 * a + 0.25 * v for a, v in zip(averages, values, strict=True)]
    optimizer.reset_momentum()
    optimizer.finalize_variable_values(variables)
    for variable, value in zip(variables, averages, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), value, 1e-5, 1e-5)


def test_learning_rate_and_steps_are_those_of_the_whole():
    variables = [keras.Variable(value) for value in start()]
    adam = of_keras.Adam(0.1)
    step(adam, variables, start(1))
    optimizer = LearningRateMultipliers(adam, name="multiplied")
    assert optimizer.name == "multiplied"
    assert int(optimizer.iterations) == 1
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    optimizer.learning_rate = 0.2
    assert float(adam.learning_rate) == pytest.approx(0.2)
    step(optimizer, variables, start(2))
    assert int(optimizer.iterations) == 2
    # One that went on by itself.
    alone = [keras.Variable(value) for value in start()]
    other = of_keras.Adam(0.1)
    step(other, alone, start(1))
    other.learning_rate = 0.2
    step(other, alone, start(2))
    for variable, value in zip(variables, alone, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable), ops.convert_to_numpy(value), 1e-6, 1e-6
        )


def test_what_is_excluded_from_weight_decay_does_not_decay():
    variables = [keras.Variable(value) for value in start()]
    optimizer = LearningRateMultipliers(of_keras.AdamW(0.1, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_list=variables[1:])
    optimizer.build(variables)
    optimizer.set_multiplier(variables, 0.5)
    step(optimizer, variables, [np.zeros_like(value) for value in start()])
    for index, (variable, value) in enumerate(zip(variables, start(), strict=True)):
        expected = value if index else value * (1 - 0.1 * 0.5 * 0.5)
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, 1e-6)


@pytest.mark.parametrize("rate", [0.1, keras.optimizers.schedules.CosineDecay(0.1, 10)])
@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Lion", "Lamb"])
def test_configuration_round_trip(rate, kind):
    inner = getattr(of_keras, kind)(rate, clipnorm=2.0)
    expected = inner.get_config()
    optimizer = LearningRateMultipliers(inner)
    described = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    again = keras.optimizers.deserialize(described)
    assert type(again) is LearningRateMultipliers
    assert isinstance(again.inner_optimizer, getattr(of_keras, kind))
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["optimizer"]["config"] == expected


def test_frozen_variables_come_back_with_their_multipliers(batch, tmp_path):
    optimizer = LearningRateMultipliers(of_keras.AdamW(0.01))
    model = small_model(optimizer)
    train(model, batch)
    lower = model.get_layer("lower").trainable_variables
    optimizer.set_multiplier(lower[:1], 0.25)
    optimizer.freeze(lower)
    before = [ops.convert_to_numpy(variable).copy() for variable in lower]
    train(model, batch)
    for variable, value in zip(lower, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    optimizer.unfreeze()
    for one in (optimizer, loaded):
        found = ops.convert_to_numpy(one.multipliers)
        np.testing.assert_array_equal(found, [0.25, 1, 1, 1, 1, 1])
    slots = [v for v in optimizer.inner_optimizer.variables if v.ndim]
    assert not any(ops.convert_to_numpy(slot).any() for slot in slots)
    assert int(optimizer.iterations) == 6


def test_unfreeze_where_nothing_is_frozen_keeps_the_momentum(batch):
    optimizer = LearningRateMultipliers(of_keras.AdamW(0.01))
    optimizer.unfreeze()
    train(small_model(optimizer), batch)
    optimizer.unfreeze()
    slots = [v for v in optimizer.inner_optimizer.variables if v.ndim]
    assert any(ops.convert_to_numpy(slot).any() for slot in slots)


class OnlyApplies(of_keras.Optimizer):
    def apply(self, grads, trainable_variables=None):
        pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "adam", r"such as keras\.optimizers\.AdamW\(1e-3\); got 'adam'"),
        (lambda: SGD(0.1), "SGD has multipliers already: call its set_multiplier"),
        (
            lambda: LearningRateMultipliers(of_keras.Adam()),
            "LearningRateMultipliers has multipliers already",
        ),
        (
            lambda: of_keras.LossScaleOptimizer(of_keras.Adam()),
            r"LossScaleOptimizer\(LearningRateMultipliers\(",
        ),
        (lambda: OnlyApplies(0.1), "update_step, which OnlyApplies has not"),
    ],
)
def test_what_cannot_have_multipliers_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        LearningRateMultipliers(make())


def test_wrong_multipliers_are_refused():
    optimizer = LearningRateMultipliers(of_keras.Adam())
    variable = keras.Variable([1.0], name="mine")
    with pytest.raises(ValueError, match=r"call `optimizer\.build"):
        optimizer.freeze([variable])
    optimizer.build([variable])
    with pytest.raises(ValueError, match="does not train stranger"):
        optimizer.set_multiplier([keras.Variable([1.0], name="stranger")], 0)
    with pytest.raises(ValueError, match=r"multiplier must .*at least 0; got -1"):
        optimizer.set_multiplier([variable], -1)
