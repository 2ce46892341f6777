import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml.serving import export

FILE = "assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "1"
    images = keras.Input((24, 24, 3))
    export(keras.Model(images, keras.layers.Flatten()(images)), folder)
    return folder


@pytest.fixture(scope="module")
def requests(exported):
    """What TF Serving's own messages read from the file."""
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(exported / FILE)).as_numpy_iterator()
    messages = [logs.PredictionLog.FromString(record) for record in records]
    assert {message.WhichOneof("log_type") for message in messages} == {"predict_log"}
    return [message.predict_log.request for message in messages]


def test_both_signatures_are_asked_with_batches_of_1_to_32(requests):
    asked = {
        (request.model_spec.signature_name, name, tensor.tensor_shape.dim[0].size)
        for request in requests
        for name, tensor in request.inputs.items()
    }
    sizes = (1, 2, 4, 8, 16, 32)
    assert asked == {("serving_default", "encoded", size) for size in sizes} | {
        ("images", "images", size) for size in sizes
    }
    assert len(requests) == len(asked)


def test_requests_hold_nothing_that_we_do_not_know(requests):
    for request in requests:
        size = request.ByteSize()
        request.DiscardUnknownFields()
        assert request.ByteSize() == size


def test_requests_run_and_have_images_that_can_be_read(exported, requests):
    signatures = tf.saved_model.load(exported).signatures
    for request in requests:
        ((name, proto),) = request.inputs.items()
        # As TF Serving makes the tensor, in C++.
        tensor = tf.io.parse_tensor(proto.SerializeToString(), proto.dtype)
        np.testing.assert_array_equal(tensor, tf.make_ndarray(proto))
        outputs = signatures[request.model_spec.signature_name](**{name: tensor})
        assert outputs["embedding"].shape == (len(tensor), 24 * 24 * 3)
        if name == "encoded":
            assert np.all(outputs["valid"])
            # A picture and no plain color.
            assert np.std(outputs["embedding"]) > 10


def test_file_is_small(exported):
    # TF Serving reads 1,000 records at the most; a version is copied to each server.
    assert pathlib.Path(exported / FILE).stat().st_size < 100_000
