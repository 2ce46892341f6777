import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops
from keras_dml.layers import NormalizedSoftmax
from keras_dml.models import embedding_model
from keras_dml.optimizers import SGD
from keras_dml.training import FreezeTrunk
from tests.layers.reference import reference

STATISTICS = ("weight", "bias", "running_mean", "running_var")


def small_trunk():
    """The network of the PyTorch trajectory: two blocks, the second with stride 2."""
    inputs = x = keras.Input((10, 10, 3))
    for block, (filters, stride) in enumerate([(8, 1), (16, 2)], 1):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(filters, 3, stride, use_bias=False, name=f"c{block}")(x)
        x = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, name=f"b{block}"
        )(x)
        x = keras.layers.ReLU()(x)
    return keras.Model(inputs, x)


def small_model(optimizer):
    """The trunk, the embedder on it, and the compiled model."""
    trunk = small_trunk()
    embedder = embedding_model(trunk, 12)
    logits = NormalizedSoftmax(7, name="classifier")(embedder.output)
    model = keras.Model(embedder.input, logits)
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return trunk, embedder, model


def torch_values(values, name):
    """The PyTorch values of a layer, as Keras's `set_weights` takes them."""
    if name == "linear_map":
        return [values("remap.weight").T]
    if name == "classifier":
        return [values("classifier")]
    if name.startswith("c"):
        return [values(f"{name}.weight").transpose(2, 3, 1, 0)]
    return [values(f"{name}.{statistic}") for statistic in STATISTICS]


class Losses(keras.callbacks.Callback):
    """Keeps the loss of each step, which Keras gives as a mean over the epoch."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


@pytest.fixture(scope="module")
def trajectory():
    """The reference, and what Keras made of the same start and the same batches."""
    known = reference("traj_")
    # A frozen trunk for 5 steps, and a tenth of the learning rate from step 13 on.
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([12], [0.01, 0.001])
    trunk, embedder, model = small_model(SGD(rate, momentum=0.9, l2=1e-4))
    for name in ("c1", "b1", "c2", "b2", "linear_map", "classifier"):
        model.get_layer(name).set_weights(
            torch_values(lambda key: known[f"init_{key}"], name)
        )
    kept = Losses()
    batches = tf.data.Dataset.from_tensor_slices(
        (known["images_nhwc"], known["labels"])
    )
    model.fit(
        batches,
        epochs=4,
        steps_per_epoch=5,
        shuffle=False,
        verbose=0,
        callbacks=[FreezeTrunk(trunk), kept],
    )
    return known, model, embedder, kept.losses


def test_losses_follow_pytorch_through_frozen_epoch_and_decay(trajectory):
    known, _, _, losses = trajectory
    assert len(losses) == 20
    np.testing.assert_allclose(losses, known["losses"], rtol=1e-3)


@pytest.mark.parametrize("name", ["c1", "b1", "c2", "b2", "linear_map", "classifier"])
def test_final_weights_are_pytorchs(trajectory, name):
    known, model, _, _ = trajectory
    found = model.get_layer(name).get_weights()[:3]
    expected = torch_values(lambda key: known[f"final_{key}"], name)[:3]
    for array, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, value, atol=5e-5)


@pytest.mark.parametrize(("name", "values"), [("b1", 14 * 100), ("b2", 14 * 25)])
def test_running_variance_is_pytorchs_but_for_its_unbiased_estimate(
    trajectory, name, values
):
    # PyTorch normalizes by the variance over n values but keeps n / (n - 1) of it;
    # Keras keeps what it normalized by. Both start from 1, of which 0.9^20 is left.
    known, model, _, _ = trajectory
    biased = model.get_layer(name).get_weights()[3]
    expected = known[f"final_{name}.running_var"]
    if IS_KERAS_2:  # does as PyTorch
        np.testing.assert_allclose(biased, expected, rtol=1e-4)
        return
    left = 0.9**20
    unbiased = left + (biased - left) * values / (values - 1)
    np.testing.assert_allclose(unbiased, expected, rtol=1e-4)
    assert np.abs(biased / expected - 1).max() > 5e-4


def test_final_embeddings_are_pytorchs(trajectory):
    known, _, embedder, _ = trajectory
    found = embedder.predict(known["images_nhwc"][0], verbose=0)
    np.testing.assert_allclose(found, known["final_embeddings"], atol=1e-3)


def noisy_batches():
    """Three batches of noise, and labels."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 14, 10, 10, 3)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((images, rng.integers(0, 7, (3, 14))))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_weights_are_frozen_and_statistics_move_in_the_first_epochs(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        trunk, _, model = small_model(SGD(0.01, momentum=0.9, l2=0.1))
    finally:
        keras.mixed_precision.set_global_policy(before)
    start = [weight.numpy() for weight in trunk.trainable_variables]
    statistics = [weight.numpy() for weight in trunk.non_trainable_variables]
    new = [model.get_layer(name) for name in ("linear_map", "classifier")]
    new_start = [layer.get_weights()[0] for layer in new]
    freeze = FreezeTrunk(trunk, epochs=2)
    model.fit(noisy_batches(), shuffle=False, epochs=2, verbose=0, callbacks=[freeze])
    for weight, value in zip(trunk.trainable_variables, start, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value, weight.name)
    for weight, value in zip(trunk.non_trainable_variables, statistics, strict=True):
        assert np.abs(weight.numpy() - value).min() > 0, weight.name
    for layer, value in zip(new, new_start, strict=True):
        assert np.abs(layer.get_weights()[0] - value).max() > 1e-3
    model.fit(
        noisy_batches(),
        shuffle=False,
        epochs=3,
        initial_epoch=2,
        verbose=0,
        callbacks=[freeze],
    )
    for weight, value in zip(trunk.trainable_variables, start, strict=True):
        assert np.abs(weight.numpy() - value).max() > 0, weight.name


def test_training_after_the_frozen_epochs_starts_from_no_momentum():
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    kept = {}

    class Velocities(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            velocities = self.model.optimizer.velocities
            kept[epoch] = max(np.abs(v.numpy()).max() for v in velocities)

    callbacks = [FreezeTrunk(trunk), Velocities()]
    model.fit(noisy_batches(), shuffle=False, epochs=3, verbose=0, callbacks=callbacks)
    assert kept[1] == 0
    assert kept[2] > 0


def test_trunk_learns_after_training_ends_or_is_saved_in_a_frozen_epoch(tmp_path):
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    saved = tmp_path / "model.keras"
    callbacks = [FreezeTrunk(trunk), keras.callbacks.ModelCheckpoint(str(saved))]
    model.fit(noisy_batches(), shuffle=False, verbose=0, callbacks=callbacks)
    for trained in (model, keras.models.load_model(saved)):
        before = trained.get_layer("c1").get_weights()[0]
        trained.fit(noisy_batches(), shuffle=False, verbose=0)
        assert np.abs(trained.get_layer("c1").get_weights()[0] - before).max() > 0


def test_no_frozen_epochs_train_everything_and_keep_the_momentum():
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    _, _, plain = small_model(SGD(0.01, momentum=0.9))
    plain.set_weights(model.get_weights())
    callbacks = [FreezeTrunk(trunk, epochs=0)]
    model.fit(noisy_batches(), shuffle=False, epochs=2, verbose=0, callbacks=callbacks)
    plain.fit(noisy_batches(), shuffle=False, epochs=2, verbose=0)
    for weight, expected in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, 1e-5, 1e-6)


def velocities(model):
    return [v.numpy() for v in model.optimizer.velocities]


def test_checkpoint_listed_before_it_saves_a_trunk_that_learns(tmp_path):
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    saved = tmp_path / "model.keras"
    callbacks = [keras.callbacks.ModelCheckpoint(str(saved)), FreezeTrunk(trunk)]
    model.fit(noisy_batches(), shuffle=False, verbose=0, callbacks=callbacks)
    loaded = keras.models.load_model(saved)
    before = loaded.get_layer("c1").get_weights()[0]
    loaded.fit(noisy_batches(), shuffle=False, verbose=0)
    assert np.abs(loaded.get_layer("c1").get_weights()[0] - before).max() > 0


def test_checkpoint_listed_before_it_resumes_as_if_training_had_gone_on(tmp_path):
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    saved = str(tmp_path / "{epoch}.keras")
    callbacks = [keras.callbacks.ModelCheckpoint(saved), FreezeTrunk(trunk, 2)]
    options = {"shuffle": False, "verbose": 0, "epochs": 3}
    model.fit(noisy_batches(), callbacks=callbacks, **options)
    for epoch in (1, 2):
        loaded = keras.models.load_model(saved.format(epoch=epoch))
        part = keras.Model(loaded.inputs, loaded.get_layer("b2").output)
        loaded.fit(
            noisy_batches(),
            initial_epoch=epoch,
            callbacks=[FreezeTrunk(part, 2)],
            **options,
        )
        for weight, value in zip(
            loaded.get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_allclose(weight, value, 1e-5, 1e-6)


@pytest.mark.parametrize("epochs", [1, 3])
def test_fit_of_frozen_epochs_alone_leaves_no_momentum(epochs):
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    callbacks = [FreezeTrunk(trunk, epochs)]
    model.fit(noisy_batches(), shuffle=False, verbose=0, callbacks=callbacks)
    assert not any(velocity.any() for velocity in velocities(model))


def test_multipliers_set_before_come_back():
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.set_multiplier(trunk.trainable_variables, 0.25)
    model.fit(
        noisy_batches(),
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[FreezeTrunk(trunk)],
    )
    found = model.optimizer.multipliers.numpy()
    np.testing.assert_array_equal(found, [0.25] * 6 + [1, 1])


@pytest.mark.parametrize("again", ["fit", "train_on_batch", "fit and freeze"])
def test_trunk_learns_after_an_interrupt_in_a_frozen_epoch(again):
    trunk, _, model = small_model(SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    model.optimizer.set_multiplier(trunk.trainable_variables, 0.5)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    freeze, options = FreezeTrunk(trunk), {"shuffle": False, "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        model.fit(noisy_batches(), callbacks=[freeze, Interrupt()], **options)
    before = model.get_layer("c1").get_weights()[0]
    if again == "fit":
        model.fit(noisy_batches(), **options)
    elif again == "train_on_batch":
        model.train_on_batch(*next(noisy_batches().as_numpy_iterator()))
    else:
        model.fit(noisy_batches(), callbacks=[FreezeTrunk(trunk)], **options)
    moved = np.abs(model.get_layer("c1").get_weights()[0] - before).max()
    assert (moved > 0) == (again != "fit and freeze")
    found = ops.convert_to_numpy(model.optimizer.multipliers)
    np.testing.assert_array_equal(found, [0.5] * 6 + [1, 1])
    assert "make_train_function" not in vars(model)


needs_keras_3 = pytest.mark.skipif(IS_KERAS_2, reason="on Keras 2.15 only with SGD")


class under:  # noqa: N801
    """Keras with a policy of mixed precision."""

    def __init__(self, policy):
        self.policy = policy

    def __enter__(self):
        self.before = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy(self.policy)

    def __exit__(self, *_):
        keras.mixed_precision.set_global_policy(self.before)


@pytest.mark.slow
@needs_keras_3
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "Lion", "of keras_dml"])
def test_any_optimizer_freezes_starts_anew_and_is_saved(name, policy, tmp_path):
    with under(policy):
        kind = SGD if name == "of keras_dml" else getattr(keras.optimizers, name)
        rate = keras.optimizers.schedules.CosineDecay(0.01, 50)
        optimizer = kind(rate)
        if policy == "mixed_float16":
            # Keras's own first scale can overflow in all steps of an epoch.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8)
        trunk, _, model = small_model(optimizer)
        start = [weight.numpy() for weight in trunk.trainable_variables]
        new = model.get_layer("linear_map").get_weights()[0]
        statistics = model.get_layer("b1").get_weights()[2]
        options = {"shuffle": False, "verbose": 0, "callbacks": [FreezeTrunk(trunk)]}
        model.fit(noisy_batches(), **options)
        for weight, value in zip(trunk.trainable_variables, start, strict=True):
            np.testing.assert_array_equal(weight.numpy(), value, weight.name)
        assert np.abs(model.get_layer("linear_map").get_weights()[0] - new).min() > 0
        assert np.abs(model.get_layer("b1").get_weights()[2] - statistics).min() > 0
        count = len(model.optimizer.variables)
        model.fit(noisy_batches(), initial_epoch=1, epochs=2, **options)
        for weight, value in zip(trunk.trainable_variables, start, strict=True):
            assert np.abs(weight.numpy() - value).max() > 0, weight.name
        assert int(model.optimizer.iterations) == 6
        assert len(model.optimizer.variables) == count
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        state = [
            {v.path.partition("/")[2]: v.numpy() for v in one.optimizer.variables}
            for one in (model, loaded)
        ]
        assert len(loaded.optimizer.variables) == count
        for path, value in state[0].items():
            np.testing.assert_array_equal(state[1][path], value, path)
        for one in (model, loaded):
            one.fit(noisy_batches(), shuffle=False, verbose=0)
        for weight, value in zip(
            loaded.get_weights(), model.get_weights(), strict=True
        ):
            np.testing.assert_allclose(weight, value, 1e-4, 1e-5)


@needs_keras_3
def test_optimizer_that_has_trained_already_is_frozen_too():
    trunk, _, model = small_model(keras.optimizers.SGD(0.01, momentum=0.9))
    options = {"shuffle": False, "verbose": 0}
    model.fit(noisy_batches(), **options)
    start = [weight.numpy() for weight in trunk.trainable_variables]
    model.fit(noisy_batches(), callbacks=[FreezeTrunk(trunk)], **options)
    for weight, value in zip(trunk.trainable_variables, start, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value, weight.name)
    assert int(model.optimizer.iterations) == 6
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@needs_keras_3
@pytest.mark.parametrize(
    ("frozen", "epochs", "swap"),
    [
        (1, 1, "not swapped"),
        (2, 1, "not swapped"),
        (1, 2, "swapped before"),
        (1, 2, "swapped after"),
    ],
)
def test_moving_averages_of_weights_outlive_the_frozen_epochs(frozen, epochs, swap):
    momentum = 0.9
    trunk, _, model = small_model(
        keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=momentum)
    )
    start = [weight.numpy() for weight in trunk.trainable_variables]
    classifier = model.get_layer("classifier").weights[0]
    if swap != "not swapped" and keras.backend.backend() == "jax":
        pytest.skip("Keras swaps variables on JAX that `fit` does not see")

    class Averages(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.average = None

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == frozen:
                self.average = None  # It begins anew.

        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            value = keras.ops.convert_to_numpy(classifier)
            if self.average is None:
                self.average = value
            self.average = momentum * self.average + (1 - momentum) * value

    averages = Averages()
    callbacks = [FreezeTrunk(trunk, frozen)]
    if swap != "not swapped":
        swapping = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        callbacks.insert(swap == "swapped after", swapping)
    model.fit(
        noisy_batches(),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, averages],
    )
    found = keras.ops.convert_to_numpy(classifier)
    np.testing.assert_allclose(found, averages.average, 1e-4, 1e-5)
    for weight, value in zip(trunk.trainable_variables, start, strict=True):
        moved = np.abs(keras.ops.convert_to_numpy(weight) - value).max()
        assert (moved > 1e-5) == (epochs > frozen), weight.path
        assert moved < 0.5, weight.path


@needs_keras_3
def test_own_optimizer_goes_on_when_the_model_is_compiled_with_it_again(tmp_path):
    rate = keras.optimizers.schedules.PolynomialDecay(0.1, 20, 0.0)
    optimizer = keras.optimizers.AdamW(rate)
    trunk, _, model = small_model(optimizer)
    options = {"shuffle": False, "verbose": 0}
    model.fit(noisy_batches(), callbacks=[FreezeTrunk(trunk)], **options)
    for epochs in (2, 3):
        model.compile(optimizer, model.loss)
        model.fit(noisy_batches(), **options)
        assert int(optimizer.iterations) == 3 * epochs
        expected = 0.1 * (1 - 3 * epochs / 20)
        assert float(optimizer.learning_rate) == pytest.approx(expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.AdamW)
    assert int(loaded.optimizer.iterations) == 9


@needs_keras_3
@pytest.mark.parametrize("kept", [False, True])
def test_loss_scale_is_built_once_and_kept_in_a_saved_model(kept, tmp_path):
    with under("mixed_float16"):
        trunk, _, model = small_model(SGD(0.01, momentum=0.9))
        options = {"shuffle": False, "verbose": 0, "callbacks": [FreezeTrunk(trunk)]}
        counts = []
        for _ in range(3):
            model.fit(noisy_batches(), **options)
            counts.append(len(model.optimizer.variables))
        assert len(set(counts)) == 1
        if kept:
            model.optimizer.dynamic_scale.assign(1234.0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        found = float(loaded.optimizer.dynamic_scale)
        assert found == float(model.optimizer.dynamic_scale)
        assert (found == 1234) == kept


@needs_keras_3
def test_optimizer_without_a_learning_rate_of_its_own_is_refused():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    both = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD())
    trunk, _, model = small_model(both)
    with pytest.raises(ValueError, match="MultiOptimizer has not"):
        model.fit(
            noisy_batches(), shuffle=False, verbose=0, callbacks=[FreezeTrunk(trunk)]
        )


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 takes any optimizer")
def test_another_optimizer_is_refused_on_keras_2():
    trunk, _, model = small_model("adam")
    message = r"compiled with keras_dml\.optimizers\.SGD on Keras 2.*got keras\..*adam"
    with pytest.raises(ValueError, match=message):
        model.fit(
            noisy_batches(), shuffle=False, verbose=0, callbacks=[FreezeTrunk(trunk)]
        )


def test_trunk_of_another_model_is_refused():
    _, _, model = small_model(SGD(0.01))
    other = small_trunk()
    with pytest.raises(ValueError, match="this optimizer does not train"):
        model.fit(
            noisy_batches(), shuffle=False, verbose=0, callbacks=[FreezeTrunk(other)]
        )


@pytest.mark.parametrize("epochs", [-1, 0.5, None, True])
def test_wrong_epochs_are_refused(epochs):
    with pytest.raises(ValueError, match=f"epochs must be.*got {epochs}"):
        FreezeTrunk(small_trunk(), epochs)


def test_name_instead_of_a_trunk_is_refused():
    with pytest.raises(ValueError, match=r"trunk must be a keras\.Model; got 'conv4'"):
        FreezeTrunk("conv4")
