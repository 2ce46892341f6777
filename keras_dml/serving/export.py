"""Exports an embedding model as a SavedModel for TF Serving."""

import os
import pathlib

import keras
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml._files import atomic_folder
from keras_dml._files import check_new_folder
from keras_dml._ops import check_can_export
from keras_dml._ops import write_archive
from keras_dml.data import preprocess_image
from keras_dml.serving._batching_parameters import write_batching_parameters
from keras_dml.serving._embedder_with_code import check_embedder
from keras_dml.serving._warmup_requests import write_warmup_requests


def export(
    embedder: keras.Model, folder: str | os.PathLike, resize: int | None = None
) -> None:
    """Writes a SavedModel with two signatures, which runs without keras_dml.

    `serving_default` takes `encoded`, (batch,) strings, the bytes of image files, and
    decodes, resizes and crops them as evaluation does. `images` takes `images`,
    (batch, side, side, 3) float32 RGB pixels from 0 to 255, already resized and
    cropped. Both give `embedding`, (batch, dim) float32, and `code`,
    (batch, ceil(dim / 8)) uint8: one bit a dimension, set where the embedding is
    above 0, packed as `np.packbits` does. A batch may be of any size, 0 included.

    `serving_default` also gives `valid`, (batch,) bool: whether the image could be
    read. Where it couldn't, its embedding and code are zeros, and those of the other
    images of the batch, which may be other clients', are what they are without it.

    The folder also holds requests to both signatures, of batches of 1 to 32 images, by
    which TF Serving warms the version up before it serves it. Beside the folder is
    written, where there is none yet, `batching_parameters.txt`, which makes batches of
    these sizes of the requests of several clients.

    Args:
        embedder: a model from (batch, side, side, 3) pixels to (batch, dim).
        folder: the version folder in TF Serving's layout, such as "serving/1"; parents
            are made. It appears whole or not at all, because TF Serving loads a version
            as soon as it sees it.
        resize: side that images are resized to before the middle is cut out, in pixels,
            at least the model's; None for the paper's proportion, 256 to 224.

    Raises:
        FileExistsError: if the folder exists; a version is never changed in place.
        OSError: if the folder cannot be made.
        ValueError: if resize is no integer or smaller than the model's input, the
            model does not take square images of a fixed size, or does not give
            embeddings, or Keras runs on another backend than TensorFlow.

    Example:
        >>> export(embedder, "serving/1", resize=32)
        >>> import tensorflow as tf
        >>> served = tf.saved_model.load("serving/1").signatures["serving_default"]
        >>> with open(test.paths[0], "rb") as file:
        ...     outputs = served(encoded=tf.constant([file.read()]))
        >>> outputs["embedding"].shape, outputs["code"].shape
        (TensorShape([1, 16]), TensorShape([1, 2]))
        >>> served(encoded=tf.constant([b"no image"]))["valid"].numpy()
        array([False])
    """
    check_can_export()
    folder = pathlib.Path(folder)
    if folder.exists():
        raise FileExistsError(
            f"folder={str(folder)!r} exists already, and a served version is never "
            "changed in place. Name the next version."
        )
    check_new_folder(folder, "folder")
    side = check_embedder(embedder)
    if resize is not None:
        resize = checked_integer(resize, "resize", side)

    def images_signature(images):
        # A convolution on a CPU fails, or gives a wrong shape, where there is no image.
        count = tf.shape(images)[0]
        missing = tf.maximum(1 - count, 0)
        some = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        some = tf.ensure_shape(some, images.shape)
        embedding = tf.cast(embedder(some, training=False), tf.float32)[:count]
        return {"embedding": embedding, "code": _packed_signs(embedding)}

    def encoded_signature(encoded):
        images, valid = _preprocess_images(encoded, side, resize)
        outputs = images_signature(tf.cast(images, tf.float32))
        for name, output in outputs.items():
            outputs[name] = tf.where(valid[:, None], output, tf.zeros_like(output))
        return {**outputs, "valid": valid}

    archive = keras.export.ExportArchive()
    archive.track(embedder)
    archive.add_endpoint(
        "serving_default",
        encoded_signature,
        input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")],
    )
    archive.add_endpoint(
        "images",
        images_signature,
        input_signature=[
            tf.TensorSpec((None, side, side, 3), tf.float32, name="images")
        ],
    )
    # TF Serving ignores the hidden folder that it is written in: no number, no version.
    with atomic_folder(folder) as unfinished:
        write_archive(archive, str(unfinished))
        write_warmup_requests(unfinished, side)
    write_batching_parameters(folder.parent)


def _preprocess_images(encoded, side, resize):
    """Makes a batch of what `preprocess_image` makes, black where it fails.

    Nothing but tf.data goes on in a graph after an operation has failed.

    Returns:
        (batch, side, side, 3) uint8, and (batch,) bool: whether the image was read.
    """
    count = tf.size(encoded)
    # One image more, as the batch may not be empty.
    end = tf.data.Dataset.from_tensors((count, tf.zeros((side, side, 3), tf.uint8)))
    # The pipeline is made anew for each request, and would be tuned for longer than
    # it runs.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    rows, images = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
        .map(
            lambda row, one: (row, preprocess_image(one, side, resize)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .ignore_errors()
        .concatenate(end)
        .batch(tf.cast(count + 1, tf.int64))
        .with_options(options)
        .get_single_element()
    )
    rows = rows[:-1, None]
    valid = tf.scatter_nd(rows, tf.ones_like(rows[:, 0], tf.bool), [count])
    return tf.scatter_nd(rows, images[:-1], [count, side, side, 3]), valid


def _packed_signs(embedding):
    """Packs one bit a dimension, as `np.packbits(embedding > 0, axis=1)` does."""
    dim = embedding.shape[-1]
    bits = tf.cast(embedding > 0, tf.uint8)
    bits = tf.pad(bits, ((0, 0), (0, -dim % 8)))
    bytes_of_bits = tf.reshape(bits, (-1, -(-dim // 8), 8))
    place_values = tf.constant([128, 64, 32, 16, 8, 4, 2, 1], tf.uint8)
    return tf.reduce_sum(bytes_of_bits * place_values, axis=-1)
