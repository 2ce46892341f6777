"""Images a second of class_balanced_batches against the same ops mapped bare.

The peer reads, decodes, resizes, crops and flips the same files with one
`tf.data.Dataset.map` on all cores: no classes, no plan, no naming of bad files. With
TensorFlow's own settings its speed jumps between two values from pass to pass; with
one thread an operation, as in class_balanced_batches, it keeps the higher one. The
ratios are to the latter. One row more is class_balanced_batches without the check of
every file's header before its decoder runs.

Arrays and `load(rows)` hold the same images, resized; their peer crops and flips them
in one map. Those with a layer of Keras have the same layer as their peer, mapped bare
over single images with a seed of its own for all. Run it with `make benchmark-input`.
"""

import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_dml.data import ImageDataset
from keras_dml.data import class_balanced_batches
from keras_dml.data._pipeline import images
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads

_IMAGES = 900
_CLASSES = 90
_BATCH = (15, 5)
_ROUNDS = 9
_IMAGES_WITH_LAYER = 150


def _photographs(folder):
    """500×400 JPEG files of smooth noise, at quality 90."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(_IMAGES):
        coarse = rng.integers(0, 256, (20, 25, 3), np.uint8)
        paths.append(f"{folder}/{number}.jpg")
        image = Image.fromarray(coarse).resize((500, 400), Image.Resampling.BICUBIC)
        image.save(paths[-1], quality=90)
    return ImageDataset(
        paths, np.arange(_IMAGES) % _CLASSES, tuple(map(str, range(_CLASSES)))
    )


def _bare(dataset, one_thread_an_op):
    def load(path, draws):
        image = tf.io.decode_jpeg(
            tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE"
        )
        image = tf.image.resize(image, (256, 256), antialias=True)
        image = tf.cast(tf.round(image), tf.uint8)
        corner = tf.cast(draws[:2] * 33, tf.int32)
        image = tf.slice(image, (corner[0], corner[1], 0), (224, 224, 3))
        return tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)

    draws = np.random.default_rng(0).random((len(dataset), 3), np.float32)
    options = tf.data.Options()
    if one_thread_an_op:
        options.threading.max_intra_op_parallelism = 1
    return (
        tf.data.Dataset.from_tensor_slices((dataset.paths, draws))
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(_BATCH[0] * _BATCH[1])
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def _unchecked(dataset):
    with mock.patch.object(images, "checked_jpeg", lambda encoded: encoded):
        return class_balanced_batches(dataset, *_BATCH)


class _Rows:
    """The resized images, by `load(rows)`."""

    def __init__(self, pixels, labels):
        self.pixels = pixels
        self.labels = labels

    def load(self, rows):
        return self.pixels[rows]


def _bare_of_pixels(pixels, layer=None):
    """Crops and flips in one map, with the layer in it."""

    def change(image, draws):
        corner = tf.cast(draws[:2] * 33, tf.int32)
        image = tf.slice(image, (corner[0], corner[1], 0), (224, 224, 3))
        image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        return image if layer is None else layer(image[None], training=True)[0]

    draws = np.random.default_rng(0).random((len(pixels), 3), np.float32)
    order = np.random.default_rng(0).permutation(len(pixels))
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    with tf.device("CPU"):
        tensor = tf.constant(pixels)
    return (
        tf.data.Dataset.from_tensor_slices((order, draws))
        .map(
            lambda row, draws: change(tensor[row], draws),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        .batch(_BATCH[0] * _BATCH[1])
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def _drain(batches):
    def run():
        for _ in batches:
            pass

    return run


def main():
    """Prints images a second and the ratio to the bare ops."""
    pin_threads()
    with tempfile.TemporaryDirectory() as folder:
        dataset = _photographs(pathlib.Path(folder))
        _print_table(
            "bare ops, one thread an op",
            {
                "bare ops": _bare(dataset, one_thread_an_op=False),
                "bare ops, one thread an op": _bare(dataset, one_thread_an_op=True),
                "cache=None": class_balanced_batches(dataset, *_BATCH),
                "cache=None, headers unchecked": _unchecked(dataset),
                'cache="memory"': class_balanced_batches(
                    dataset, *_BATCH, cache="memory"
                ),
            },
        )
        (pixels,) = dataset.images(256, 256, _IMAGES)
    pixels = pixels.numpy()
    options = {"image_size": 224, "flip": True}
    arrays = (pixels, dataset.labels)
    _print_table(
        "bare ops on a tensor",
        {
            "bare ops on a tensor": _bare_of_pixels(pixels),
            "arrays": class_balanced_batches(arrays, *_BATCH, **options),
            "load(rows)": class_balanced_batches(_Rows(*arrays), *_BATCH, **options),
        },
    )
    few = tuple(array[:_IMAGES_WITH_LAYER] for array in arrays)
    for name, layer in (
        ("RandomRotation(0.05)", keras.layers.RandomRotation(0.05)),
        ("RandAugment()", keras.layers.RandAugment()),
    ):
        _print_table(
            f"bare ops and {name}",
            {
                f"bare ops and {name}": _bare_of_pixels(few[0], layer),
                f"arrays, augment={name}": class_balanced_batches(
                    few, *_BATCH, augment=layer, **options
                ),
            },
            _IMAGES_WITH_LAYER,
            rounds=3,
        )


def _print_table(reference, contestants, images=_IMAGES, rounds=_ROUNDS):
    """Times passes over all images, and prints them with the ratio to one of them."""
    medians = alternating_medians(
        {name: _drain(batches) for name, batches in contestants.items()}, rounds
    )
    print(f"\n{images} images; medians of {rounds} alternating rounds")
    print("| input | images/s | ratio |")
    print("| --- | --- | --- |")
    for name, seconds in medians.items():
        ratio = medians[reference] / seconds
        print(f"| {name} | {images / seconds:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
