import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dml
from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.check_config import check_config
from experiments._lib.check_config import check_replicas
from experiments._lib.losses import LOSSES
from experiments._lib.losses import batch_shape
from experiments.configs import image_folder_paper
from keras_dml._ops import IS_KERAS_2
from tests.experiments.programs import write_photos


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Photos of six classes, six of each."""
    root = write_photos(tmp_path_factory.mktemp("photos"))
    return keras_dml.data.image_folder(root)[0]


def small_config(loss):
    config = image_folder_paper.get_config()
    config.loss = loss
    config.trunk, config.weights = "conv4", ""
    config.image_size, config.resize, config.dim = 28, 32, 16
    config.classes, config.images_per_class = 4, 3
    config.frozen_epochs = 0
    return config


def test_every_loss_of_the_library_can_be_named():
    made = {type(entry.make()) for entry in LOSSES.values()}
    named = {getattr(keras_dml.losses, name) for name in keras_dml.losses.__all__}
    bases = {keras_dml.losses.PairLoss, keras_dml.losses.ProxyLoss}
    classes = {one for one in named - bases if isinstance(one, type)}
    assert classes - {keras_dml.losses.MultiSimilarityMiner} < made
    assert next(iter(LOSSES)) == image_folder_paper.get_config().loss


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_trains_all_weights_by_the_same_fit(name, noise):
    config = small_config(name)
    config.classes, config.images_per_class = 5, 2
    keras.utils.set_random_seed(0)
    _, embedder, model = build_models(config, len(noise.class_names))
    batches = build_batches(config, noise)
    compile_model(config, model, len(batches))
    model.run_eagerly = True  # the sooner for a few steps
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for weight, start in zip(model.trainable_weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all()
        assert np.abs(weight.numpy() - start).max() > 0, weight.name
    assert ("accuracy" in history) == (not LOSSES[name].is_pair_loss)
    lengths = np.linalg.norm(embedder(tf.zeros((1, 28, 28, 3))), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-4)


def test_n_pairs_gets_as_many_images_in_pairs_before_they_are_scaled(train):
    config = small_config("n_pairs")
    assert batch_shape(config) == (6, 2)
    _, labels = next(iter(build_batches(config, train)))
    assert np.bincount(labels).tolist() == [2] * 6
    _, embedder, model = build_models(config, 6)
    images = np.random.default_rng(0).uniform(0, 255, (3, 28, 28, 3)).astype("float32")
    features = model(images).numpy()
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    assert np.abs(lengths - 1).max() > 0.1
    np.testing.assert_allclose(features / lengths, embedder(images), atol=1e-5)


@pytest.mark.parametrize("name", ["proxy_anchor", "triplet_hard"])
def test_replicas_may_cut_classes_in_two(name):
    config = small_config(name)
    config.classes, config.images_per_class = 3, 4
    check_replicas(config, 2)
    with pytest.raises(ValueError, match="can't be divided among 5 replicas"):
        check_replicas(config, 5)


def test_replicas_get_whole_classes_of_a_loss_of_addons():
    pytest.importorskip("tensorflow_addons")
    config = small_config("tfa:TripletHardLoss")
    config.classes, config.images_per_class = 3, 4
    check_replicas(config, 1)
    with pytest.raises(ValueError, match="whole classes on each of 2 replicas"):
        check_replicas(config, 2)
    config.classes = 4
    check_replicas(config, 2)
    with pytest.raises(ValueError, match="2 at least"):
        check_replicas(config, 4)


@pytest.mark.slow
@pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")
@pytest.mark.parametrize("name", ["arc_face", "cos_face", "sub_center_arc_face"])
def test_margins_draw_a_share_of_the_classes(name, noise):
    config = small_config(name)
    config.classes, config.images_per_class, config.sampled_classes = 5, 2, 0.5
    check_config(config)
    keras.utils.set_random_seed(0)
    _, _, model = build_models(config, len(noise.class_names))
    assert isinstance(model, keras_dml.models.Classifier)
    assert model.softmax.sampled_classes == round(0.5 * len(noise.class_names))
    assert model.softmax.centers == (3 if "center" in name else 1)
    batches = build_batches(config, noise)
    compile_model(config, model, len(batches))
    history = model.fit(batches, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
@pytest.mark.skipif(IS_KERAS_2, reason="the memory needs Keras 3")
def test_a_loss_on_pairs_remembers_past_batches(noise):
    config = small_config("contrastive")
    config.classes, config.images_per_class, config.memory_size = 5, 2, 30
    check_config(config)
    _, embedder, model = build_models(config, len(noise.class_names))
    batches = build_batches(config, noise)
    compile_model(config, model, len(batches))
    model.fit(batches, epochs=2, shuffle=False, verbose=0)
    assert model.written.numpy()[1] == min(30, 2 * len(batches) * 10)
    assert model.embedder is embedder


@pytest.mark.parametrize("name", ["n_pairs", "lifted_structure", "arc_face"])
def test_a_loss_without_references_takes_no_memory(name):
    config = small_config(name)
    config.memory_size = 100
    with pytest.raises(ValueError, match=rf"--config\.memory_size must be 0 .*{name}"):
        check_config(config)
    config.loss, config.memory_size = "contrastive", 11
    with pytest.raises(ValueError, match="at least the 12 images of a batch; got 11"):
        check_config(config)


def test_a_loss_that_is_no_softmax_over_classes_draws_none():
    config = small_config("proxy_anchor")
    config.sampled_classes = 0.5
    with pytest.raises(ValueError, match=r"normalized_softmax or cos_face or arc_face"):
        check_config(config)
