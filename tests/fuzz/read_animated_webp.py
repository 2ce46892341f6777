"""Reads animated WebP files in every way: python read_animated_webp.py FOLDER.

In a process of its own, which without the look at the header would end by a signal.
"""

import pathlib
import sys

import keras
import tensorflow as tf

from keras_dml.data import ImageDataset
from keras_dml.data import check_images
from keras_dml.serving import export
from tests.fuzz.mutations import image_files


def main(folder):
    content = image_files()["WEBP animated opaque"]
    path = pathlib.Path(folder, "animated.webp")
    path.write_bytes(content)
    dataset = ImageDataset([path] * 8, [0] * 8, ["a class"])
    pixels = keras.Input((28, 28, 3))
    export(keras.Model(pixels, keras.layers.Flatten()(pixels)), f"{folder}/1")
    served = tf.saved_model.load(f"{folder}/1").signatures["serving_default"]
    for read in (
        lambda: list(dataset.images(28)),
        lambda: check_images(dataset),
    ):
        try:
            read()
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            print("refused:", str(error).replace("\n", " "))
    print("served:", *served(encoded=tf.constant([content] * 8))["valid"].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
