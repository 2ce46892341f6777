"""One run of many: trained, measured, and nothing but its figures kept."""

import math
import statistics
import time

import keras
import ml_collections
import tensorflow as tf

from experiments.build import build_batches
from experiments.build import build_models
from experiments.build import compile_model
from experiments.losses import batch_shape
from experiments.losses import find_loss
from experiments.measure import measure
from keras_dml import training
from keras_dml.data import ImageDataset


def train_and_measure(
    config: ml_collections.ConfigDict,
    strategy: tf.distribute.Strategy,
    train: ImageDataset,
    test: ImageDataset,
) -> dict:
    """Trains the config's model on one data set and measures it on another.

    Returns:
        {"seconds": of all of it, "seconds_an_epoch": the median, the first one, in
        which TensorFlow traces, left out, "image_views": how many images were trained
        on, each as often as it was seen, "metrics": the content of `metrics.json`}.

    Raises:
        FloatingPointError: if the loss or an embedding of the test images became
            infinite or not a number.
    """
    start = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        trunk, embedder, model = build_models(config, len(train.class_names))
    batches = build_batches(config, train)
    with strategy.scope():
        compile_model(config, model, len(batches))
    epochs = config.warm_up_epochs + config.epochs
    clock = _EpochClock(epochs)
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[training.WarmUp(trunk, config.warm_up_epochs), clock],
    )
    rate = config.learning_rate * find_loss(config.loss).rate
    setting = f"with --config.loss={config.loss} and a learning rate of {rate:g}"
    if not math.isfinite(clock.loss):
        raise FloatingPointError(f"{setting} the loss became {clock.loss}.")
    try:
        _, _, metrics = measure(config, embedder, test)
    except FloatingPointError as error:
        raise FloatingPointError(f"{setting} {error}") from None
    return {
        "seconds": round(time.monotonic() - start),
        "seconds_an_epoch": statistics.median(clock.seconds[1:] or clock.seconds),
        "image_views": epochs * len(batches) * math.prod(batch_shape(config)),
        "metrics": metrics,
    }


class _EpochClock(keras.callbacks.Callback):
    """Times the epochs, behind a progress bar that moves once in each."""

    def __init__(self, epochs):
        super().__init__()
        self.bar = keras.utils.Progbar(epochs, unit_name="epoch")
        self.seconds = []
        self.loss = math.nan

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.start)
        self.loss = logs["loss"]
        self.bar.update(epoch + 1, [("loss", self.loss)])
