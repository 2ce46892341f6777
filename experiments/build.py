"""From a config to what is trained: the model and its batches."""

import keras
import ml_collections
import tensorflow as tf

from keras_dml import data
from keras_dml import layers
from keras_dml import models
from keras_dml import optimizers
from keras_dml import training


def build_models(
    config: ml_collections.ConfigDict, num_classes: int
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Makes (the trunk, the embedding model on it, the classifier on that)."""
    shape = (config.image_size, config.image_size, 3)
    trunk = models.trunk(config.trunk, shape, config.weights or None)
    embedder = models.embedding_model(trunk, config.dim, config.layer_norm)
    logits = layers.NormalizedSoftmax(num_classes, config.temperature)(embedder.output)
    return trunk, embedder, keras.Model(embedder.input, logits)


def build_batches(
    config: ml_collections.ConfigDict, train: data.ImageDataset
) -> tf.data.Dataset:
    """Makes the batches of `classes` × `images_per_class`, balanced or not."""
    options = {
        "image_size": config.image_size,
        "resize": config.resize,
        "flip": config.flip,
        "cache": config.cache or None,
        "seed": config.seed,
    }
    if not config.balanced:
        batch_size = config.classes * config.images_per_class
        return data.shuffled_batches(train, batch_size, **options)
    return data.class_balanced_batches(
        train,
        config.classes,
        config.images_per_class,
        replacement=config.replacement,
        **options,
    )


def compile_model(
    config: ml_collections.ConfigDict, model: keras.Model, steps_per_epoch: int
) -> None:
    """Gives the classifier the paper's optimiser, schedule and loss."""
    learning_rate = training.step_decay(
        config.learning_rate,
        config.epochs,
        config.decay_at,
        steps_per_epoch,
        config.warm_up_epochs,
    )
    model.compile(
        optimizers.SGD(learning_rate, config.momentum, config.l2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
