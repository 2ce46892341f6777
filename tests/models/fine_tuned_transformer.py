"""Fine-tunes a tiny vision transformer of KerasHub, by what the package shows alone.

Run it with a policy of mixed precision and an empty folder: it trains once without a
stop, and once with one in the middle of an epoch, and prints how far apart they end.
"""

import json
import pathlib
import sys

import keras
import keras_hub
import numpy as np
from PIL import Image

import keras_dml

CLASSES = 4
STEPS = 3
"""Those of an epoch."""


def photos(folder):
    """An ImageDataset of 24 noisy images of four colors."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 200, (CLASSES, 3))
    labels = np.repeat(np.arange(CLASSES), 6)
    paths = []
    for row, label in enumerate(labels):
        pixels = colors[label] + rng.integers(0, 56, (36, 36, 3))
        paths.append(str(pathlib.Path(folder) / f"{row}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return keras_dml.data.ImageDataset(paths, labels, tuple("abcd"))


def batches(train, initial_step=0):
    """Batches of 8 images, three an epoch."""
    return keras_dml.data.class_balanced_batches(
        train, CLASSES, 2, image_size=32, resize=36, initial_step=initial_step
    )


def build(policy="float32", decay=0.5, weight_decay=0.05):
    """(the transformer, the compiled model), always from the same weights."""
    keras.utils.set_random_seed(0)
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3),
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
        )
        embedder = keras_dml.models.embedding_model(
            backbone,
            dim=8,
            pooling="token",
            image_converter=keras_hub.layers.ImageConverter(
                scale=1 / 127.5, offset=-1.0
            ),
        )
        logits = keras_dml.layers.NormalizedSoftmax(CLASSES)(embedder.output)
        model = keras.Model(embedder.input, logits)
        schedule = keras.optimizers.schedules.CosineDecay(0.01, 10 * STEPS)
        adamw = keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
        optimizer = keras_dml.optimizers.LearningRateMultipliers(adamw)
        if policy == "mixed_float16":
            # Keras's own first scale can overflow in all steps of an epoch.
            scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64)
        model.compile(
            scaled if policy == "mixed_float16" else optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.optimizer.build(model.trainable_variables)
    finally:
        keras.mixed_precision.set_global_policy(before)
    for variables, multiplier in keras_dml.optimizers.layer_wise_decay(backbone, decay):
        optimizer.set_multiplier(variables, multiplier)
    return backbone, model


class StopAt(keras.callbacks.Callback):
    """Stops `fit` after so many steps in all."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        done = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self.model.stop_training = done == self.step


def state(model):
    """Every variable of the model and of its optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def main(policy, folder):
    train = photos(folder)
    backbone, model = build(policy)
    start = state(model)
    frozen = keras_dml.training.FreezeTrunk(backbone, epochs=1)
    options = {"epochs": 4, "verbose": 0}
    model.fit(batches(train), callbacks=[frozen, StopAt(11)], **options)
    whole = state(model)

    backbone, model = build(policy)
    frozen = keras_dml.training.FreezeTrunk(backbone, epochs=1)
    model.fit(batches(train), callbacks=[frozen, StopAt(5)], **options)
    model.save(pathlib.Path(folder) / "stopped.keras")
    del model
    model = keras.models.load_model(pathlib.Path(folder) / "stopped.keras")
    step = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    model.fit(batches(train, step), initial_epoch=2, **options)

    def moved(before, after):
        pairs = zip(before, after, strict=True)
        return sum(not np.array_equal(a, b) for a, b in pairs)

    found = {
        "step": step,
        "variables": len(whole),
        "moved": moved(start, whole),
        "apart": moved(whole, state(model)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    main(*sys.argv[1:])
