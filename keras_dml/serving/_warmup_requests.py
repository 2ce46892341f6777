"""Requests that TF Serving runs on a version before it serves it.

TensorFlow prepares each signature when it first runs, and on a GPU chooses how to
compute each shape when that first comes, which may take seconds. TF Serving has no such
wait where a version brings its own requests:
https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

import pathlib

import tensorflow as tf

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Sizes that are warmed up, and that `batching_parameters.txt` allows."""

_GRAY = 127.5


def write_warmup_requests(exported: pathlib.Path, side: int) -> None:
    """Writes requests to both signatures, of each of `BATCH_SIZES`, for a SavedModel.

    They are `PredictionLog` messages of TF Serving, as records of TensorFlow's, in
    `assets.extra/tf_serving_warmup_requests`.

    Args:
        exported: the folder of a SavedModel.
        side: of the images that the signature `images` takes, in pixels.
    """
    folder = exported / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as writer:
        for size in BATCH_SIZES:
            # One value stands for all of a tensor.
            encoded = tf.make_tensor_proto(_photograph(), tf.string, (size,))
            shape = (size, side, side, 3)
            images = tf.make_tensor_proto(_GRAY, tf.float32, shape)
            writer.write(_prediction_log("serving_default", "encoded", encoded))
            writer.write(_prediction_log("images", "images", images))


def _photograph():
    """The bytes of a JPEG file of 256×192 pixels that go from black to white."""
    rows, columns = tf.meshgrid(tf.range(192), tf.range(256), indexing="ij")
    pixels = tf.stack((rows, columns, (rows + columns) // 2), axis=-1)
    return tf.io.encode_jpeg(tf.cast(pixels, tf.uint8)).numpy()


def _prediction_log(signature, name, tensor):
    """A `PredictionLog` of one request, in protocol buffers' binary form.

    The fields are those of tensorflow_serving/apis/prediction_log.proto, predict.proto
    and model.proto.

    Args:
        signature: the name of a signature.
        name: of its only input.
        tensor: a `TensorProto`.
    """
    model_spec = _field(3, signature.encode())
    inputs = _field(1, name.encode()) + _field(2, tensor.SerializeToString())
    request = _field(1, model_spec) + _field(2, inputs)
    predict_log = _field(1, request)
    return _field(6, predict_log)


def _field(number, content):
    """A field of a message, of bytes, text or another message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value):
    """An integer, 7 bits a byte and the lowest first; 128 says that more follow."""
    octets = []
    while value >= 128:
        octets.append(value % 128 + 128)
        value //= 128
    return bytes([*octets, value])
