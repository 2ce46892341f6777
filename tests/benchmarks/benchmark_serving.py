"""Images a second of an exported model, from bytes and from pixels.

The peer of pixels is `embedder.predict` on the same ones. That of bytes decodes,
resizes and crops the same files with one `tf.data.Dataset.map` on all cores, and then
predicts: the time of both is added. The exported model is asked for one batch after
the other, as by one client that waits for each answer. Run it with
`make benchmark-serving`.
"""

import argparse
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_dml
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.jpeg_photographs import jpeg_photographs

_IMAGES = 64
_SIDE, _RESIZE, _DIM = 224, 256, 512
_BATCH_SIZES = (1, 8, 32)
_ROUNDS = 7


def _contestants(embedder, folder, contents, size):
    """What is timed, over all images, in batches of one size."""

    def preprocess(encoded):
        return keras_dml.data.preprocess_image(encoded, _SIDE, _RESIZE)

    decoded = (
        tf.data.Dataset.from_tensor_slices(contents)
        .map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(size)
    )
    pixels = np.concatenate(list(decoded)).astype(np.float32)
    signatures = tf.saved_model.load(folder).signatures
    cuts = range(0, len(contents), size)
    encoded = [tf.constant(contents[first : first + size]) for first in cuts]
    images = [tf.constant(pixels[first : first + size]) for first in cuts]

    def decode():
        for _ in decoded:
            pass

    def serve_bytes():
        for batch in encoded:
            assert signatures["serving_default"](encoded=batch)["valid"].numpy().all()

    def serve_pixels():
        for batch in images:
            signatures["images"](images=batch)["embedding"].numpy()

    return {
        "decode": decode,
        "predict": lambda: embedder.predict(pixels, batch_size=size, verbose=0),
        "from pixels": serve_pixels,
        "from bytes": serve_bytes,
    }


def main():
    """Prints images a second, and the ratio to the peer's."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--images", type=int, default=_IMAGES)
    flags.add_argument("--rounds", type=int, default=_ROUNDS)
    flags = flags.parse_args()
    pin_threads()
    keras.utils.set_random_seed(0)
    trunk = keras_dml.models.trunk("efficientnet_lite0", (_SIDE, _SIDE, 3))
    embedder = keras_dml.models.embedding_model(trunk, _DIM)
    contents = jpeg_photographs(flags.images)
    print(
        f"\nEfficientNet-lite0, {_SIDE} pixels; {flags.images} images; medians of "
        f"{flags.rounds} alternating rounds"
    )
    print("| batch | what | images/s | peer | ratio |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as parent:
        folder = f"{parent}/1"
        keras_dml.serving.export(embedder, folder, _RESIZE)
        for size in _BATCH_SIZES:
            contestants = _contestants(embedder, folder, contents, size)
            seconds = alternating_medians(contestants, flags.rounds)
            predict = seconds["predict"]
            for name, peer in (
                ("from pixels", predict),
                ("from bytes", seconds["decode"] + predict),
            ):
                print(
                    f"| {size} | {name} | {flags.images / seconds[name]:,.1f} | "
                    f"{flags.images / peer:,.1f} | {peer / seconds[name]:.2f} |"
                )


if __name__ == "__main__":
    main()
