"""From a config to what is trained: the model and its batches."""

import keras
import ml_collections
import tensorflow as tf

from experiments.losses import batch_shape
from experiments.losses import find_loss
from experiments.losses import loss_input
from experiments.optimizers import make_optimizer
from keras_dml import data
from keras_dml import layers
from keras_dml import models


def build_models(
    config: ml_collections.ConfigDict, num_classes: int
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Makes (the trunk, the embedding model on it, what the loss takes on that)."""
    shape = (config.image_size, config.image_size, 3)
    trunk = models.trunk(config.trunk, shape, config.weights or None)
    embedder = models.embedding_model(trunk, config.dim, config.layer_norm)
    if config.sampled_classes < 1:
        softmax = layers.NormalizedSoftmax(
            num_classes, config.temperature, config.sampled_classes, config.seed
        )
        return trunk, embedder, models.Classifier(embedder, softmax)
    output = loss_input(config, embedder, num_classes)
    return trunk, embedder, keras.Model(embedder.input, output)


def build_batches(
    config: ml_collections.ConfigDict, train: data.ImageDataset
) -> tf.data.Dataset:
    """Makes the batches of `batch_shape`, balanced or not."""
    classes, images_per_class = batch_shape(config)
    options = {
        "image_size": config.image_size,
        "resize": config.resize,
        "flip": config.flip,
        "cache": config.cache or None,
        "seed": config.seed,
    }
    if not config.balanced:
        return data.shuffled_batches(train, classes * images_per_class, **options)
    return data.class_balanced_batches(
        train,
        classes,
        images_per_class,
        replacement=config.replacement,
        **options,
    )


def compile_model(
    config: ml_collections.ConfigDict, model: keras.Model, steps_per_epoch: int
) -> None:
    """Gives the model the config's loss, optimiser and schedule."""
    loss = find_loss(config.loss)
    model.compile(
        make_optimizer(config, loss.rate, steps_per_epoch),
        loss.make(),
        metrics=loss.metrics,
    )
