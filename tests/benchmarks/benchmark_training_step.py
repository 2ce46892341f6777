"""A training step with NormalizedSoftmax against one with a bias-free Dense softmax.

Both models have the same trunk and embedding head. Run it with
`make benchmark-training-step`.
"""

import keras
import numpy as np
import tensorflow as tf

import keras_dml
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads

_BATCH = 75
# Trunk, image side, embedding dim, classes, steps a timing.
_CASES = (
    ("conv4", 28, 64, 136, 30),
    ("conv4", 84, 512, 1000, 10),
    ("resnet50", 64, 512, 11318, 2),
)
_ROUNDS = 9


def _trainer(classifier, trunk, side, dim, classes, steps):
    trunk = keras_dml.models.trunk(trunk, (side, side, 3))
    embedder = keras_dml.models.embedding_model(trunk, dim)
    model = keras.Model(embedder.input, classifier(classes)(embedder.output))
    model.compile(
        keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_BATCH, side, side, 3), np.uint8)
    labels = rng.integers(0, classes, _BATCH)
    batches = tf.data.Dataset.from_tensors((images, labels)).cache().repeat(steps)
    return lambda: model.fit(batches, verbose=0, shuffle=False)


def main():
    """Prints a table with a row for each case."""
    pin_threads()
    print(f"batch {_BATCH}; medians of {_ROUNDS} alternating rounds, ms a step")
    print("| trunk | side | dim | classes | Dense | NormalizedSoftmax | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for trunk, side, dim, classes, steps in _CASES:
        case = (trunk, side, dim, classes, steps)
        medians = alternating_medians(
            {
                "dense": _trainer(
                    lambda classes: keras.layers.Dense(classes, use_bias=False), *case
                ),
                "ours": _trainer(keras_dml.layers.NormalizedSoftmax, *case),
            },
            _ROUNDS,
        )
        dense, ours = (1000 * medians[name] / steps for name in ("dense", "ours"))
        print(
            f"| {trunk} | {side} | {dim} | {classes:,} | {dense:.1f} | {ours:.1f} "
            f"| {ours / dense:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
