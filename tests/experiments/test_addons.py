import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import make_optimizer
from experiments._lib.check_config import check_config
from experiments._lib.losses import find_loss
from experiments.configs import image_folder_paper
from keras_dml._ops import IS_KERAS_2
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos

needs_addons = pytest.mark.skipif(
    not IS_KERAS_2, reason="needs TensorFlow Addons: `make test-addons`"
)
OPTIMIZERS = (
    *("AdaBelief", "AdamW", "LAMB", "LazyAdam", "NovoGrad", "ProximalAdagrad"),
    *("RectifiedAdam", "SGDW", "Yogi"),
)


def small_config(**settings):
    config = image_folder_paper.get_config()
    config.trunk, config.weights = "conv4", ""
    config.image_size, config.resize, config.dim = 28, 32, 16
    config.classes, config.images_per_class = 5, 2
    config.frozen_epochs = 0
    config.update(settings)
    return config


def train(config, noise):
    """Two epochs of the config; gives the losses and how far each weight moved."""
    keras.utils.set_random_seed(0)
    _, _, model = build_models(config, len(noise.class_names))
    batches = build_batches(config, noise)
    compile_model(config, model, len(batches))
    start = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    end = [weight.numpy() for weight in model.trainable_weights]
    return history["loss"], [
        np.abs(one - other).max() for one, other in zip(end, start, strict=True)
    ]


@pytest.mark.skipif(IS_KERAS_2, reason="TensorFlow Addons can be had here")
@pytest.mark.parametrize(
    ("setting", "value"),
    [("loss", "tfa:TripletSemiHardLoss"), ("optimizer", "tfa:LAMB")],
)
def test_addons_that_cannot_be_had_are_said_with_the_remedy(setting, value):
    with pytest.raises(ImportError) as error:
        check_config(small_config(**{setting: value}))
    message = str(error.value)
    assert message.startswith(f"--config.{setting}={value} needs TensorFlow Addons")
    assert 'pip install "keras_dml[addons]"' in message


@needs_addons
@pytest.mark.parametrize(
    ("setting", "value", "others"),
    [
        ("loss", "tfa:TripletLoss", "TripletSemiHardLoss, TripletHardLoss"),
        ("loss", "tfa:ContrastiveLoss", "labels and embeddings"),
        ("optimizer", "tfa:SGD", "LazyAdam, "),
        ("optimizer", "tfa:Lookahead", "takes a schedule"),
    ],
)
def test_name_that_addons_lacks_is_said_with_those_it_has(setting, value, others):
    with pytest.raises(ValueError, match=rf"^--config\.{setting} must be .*") as error:
        check_config(small_config(**{setting: value}))
    assert others in str(error.value)
    assert str(error.value).endswith(f"got {value!r}.")


@needs_addons
def test_frozen_epochs_with_an_optimizer_of_addons_are_refused():
    config = small_config(optimizer="tfa:LAMB", frozen_epochs=1)
    with pytest.raises(ValueError, match=r"frozen_epochs must be 0 with .*tfa:LAMB"):
        check_config(config)


@needs_addons
@pytest.mark.parametrize(
    "name", ["TripletSemiHardLoss", "TripletHardLoss", "LiftedStructLoss"]
)
def test_every_loss_of_addons_on_embeddings_trains_all_weights(name, noise):
    config = small_config(loss=f"tfa:{name}")
    check_config(config)
    losses, moved = train(config, noise)
    assert np.isfinite(losses).all()
    assert min(moved) > 0
    import tensorflow_addons as tfa

    assert type(find_loss(config.loss).make()) is getattr(tfa.losses, name)


@needs_addons
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_addons_that_takes_a_schedule_trains(name):
    config = small_config(optimizer=f"tfa:{name}", learning_rate=1e-2)
    check_config(config)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(make_optimizer(config, steps_per_epoch=1), "mse")
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    losses = model.fit(x, x[:, :2], 20, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@needs_addons
def test_decay_of_sgdw_follows_the_learning_rate_as_the_papers_l2_does():
    config = small_config(momentum=0.0, l2=0.1, learning_rate=0.5, epochs=2)
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, 3)).astype("float32")
    ends = []
    for name in ("sgd", "tfa:SGDW"):
        config.optimizer = name
        optimizer = make_optimizer(config, steps_per_epoch=3)
        weight = tf.Variable(start)
        for gradient in np.random.default_rng(1).normal(size=(6, 2, 3)):
            step = tf.constant(gradient, tf.float32)
            optimizer.apply_gradients([(step, weight)])
        ends.append(weight.numpy())
    np.testing.assert_allclose(ends[1], ends[0], 1e-5, 1e-6)
    assert np.abs(ends[0] - start).max() > 0.1


@needs_addons
def test_train_takes_both_on_two_replicas(tmp_path):
    photos = write_photos(tmp_path / "photos")
    finished = run_program(
        "train",
        *SMALL,
        "--config.loss=tfa:TripletSemiHardLoss",
        "--config.optimizer=tfa:LAMB",
        "--config.nmi_starts=0",
        "--logical_cpus=2",
        f"--data_dir={photos}",
        f"--output_dir={tmp_path / 'run'}",
    )
    assert finished.returncode == 0, finished.stderr
    assert "2 replica(s)" in finished.stdout
    assert (tmp_path / "run" / "serving" / "1" / "saved_model.pb").is_file()
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert "Addons" not in finished.stderr
