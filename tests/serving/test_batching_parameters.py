import keras
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2

from keras_dml.serving import export

# As TF Serving's session_bundle_config.proto has them; its Python package has not.
WRAPPED = {
    "max_batch_size": 1,
    "batch_timeout_micros": 2,
    "max_enqueued_batches": 3,
    "num_batch_threads": 4,
}


@pytest.fixture(scope="module")
def message():
    file = descriptor_pb2.FileDescriptorProto(
        name="batching.proto", package="serving", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    described = file.message_type.add(name="BatchingParameters")
    for name, number in WRAPPED.items():
        described.field.add(
            name=name,
            number=number,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            type_name=".google.protobuf.Int64Value",
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    described.field.add(
        name="allowed_batch_sizes",
        number=6,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    described = pool.FindMessageTypeByName("serving.BatchingParameters")
    return message_factory.GetMessageClass(described)


@pytest.fixture
def export_to(tmp_path):
    images = keras.Input((8, 8, 3))
    embedder = keras.Model(images, keras.layers.Flatten()(images))
    return lambda version: export(embedder, tmp_path / version)


def test_tf_serving_reads_the_file_and_takes_its_sizes(export_to, tmp_path, message):
    export_to("1")
    text = (tmp_path / "batching_parameters.txt").read_text()
    parameters = text_format.Parse(text, message())
    sizes = list(parameters.allowed_batch_sizes)
    # What TF Serving asks for: ascending, and the last is the largest batch.
    assert np.all(np.diff(sizes) > 0)
    assert sizes[-1] == parameters.max_batch_size.value == 32
    assert 0 < parameters.batch_timeout_micros.value < 10_000
    assert parameters.max_enqueued_batches.value > 10
    # As many threads as there are cores, TF Serving's default.
    assert not parameters.HasField("num_batch_threads")


def test_what_somebody_has_set_stays(export_to, tmp_path):
    export_to("1")
    file = tmp_path / "batching_parameters.txt"
    file.write_text("max_batch_size { value: 8 }")
    export_to("2")
    assert file.read_text() == "max_batch_size { value: 8 }"
