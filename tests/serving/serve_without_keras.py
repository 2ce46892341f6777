"""Runs an exported model as a server would, with TensorFlow alone.

python serve_without_keras.py EXPORTED INPUTS OUTPUTS

INPUTS is an .npz file with `images`, an array, and `encoded0`, `encoded1` and so on,
the bytes of one file each. OUTPUTS is one to write: what both signatures give in
Python (`images/...`, `encoded/...`) and through TensorFlow's C loader, the one behind
TF Serving (`c/images/...` and `c/encoded/...`): for the whole batch, one row of it
(`.../one/...`) and none (`.../none/...`).
"""

import ctypes
import os
import pathlib
import sys

ABSENT = ("keras", "keras_dml", "tf_keras")
# None makes Python say that there is no such module.
sys.modules.update(dict.fromkeys(ABSENT))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402

FLOAT, UINT8, STRING, BOOL = 1, 4, 7, 10  # of TF_DataType
DTYPES = {FLOAT: np.float32, UINT8: np.uint8, BOOL: np.bool_}
STRING_BYTES = 24  # of a TF_TString
INVALID_ARGUMENT = 3  # of TF_Code


class Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


class Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def parts(rows):
    return ("", len(rows)), ("/one", 1), ("/none", 0)


def in_python(exported, images, encoded):
    signatures = tf.saved_model.load(exported).signatures
    assert set(signatures) == {"serving_default", "images"}
    for name, count in parts(images):
        some = signatures["images"](images=tf.constant(images[:count]))
        others = signatures["serving_default"](
            encoded=tf.constant(encoded[:count], tf.string, (count,))
        )
        for kind, outputs in ("images", some), ("encoded", others):
            for output, tensor in outputs.items():
                yield f"{kind}{name}/{output}", tensor.numpy()


def in_c(exported, images, encoded):
    folder = pathlib.Path(tf.__file__).parent
    c = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name in (
        "TF_NewStatus",
        "TF_NewGraph",
        "TF_NewSessionOptions",
        "TF_NewBuffer",
        "TF_LoadSessionFromSavedModel",
        "TF_GraphOperationByName",
        "TF_AllocateTensor",
        "TF_TensorData",
    ):
        getattr(c, name).restype = ctypes.c_void_p
    c.TF_Message.restype = ctypes.c_char_p
    c.TF_Dim.restype = ctypes.c_int64
    pointer = ctypes.c_void_p
    status = pointer(c.TF_NewStatus())

    def check():
        assert c.TF_GetCode(status) == 0, c.TF_Message(status).decode()

    graph = pointer(c.TF_NewGraph())
    meta_graph = pointer(c.TF_NewBuffer())
    session = pointer(
        c.TF_LoadSessionFromSavedModel(
            pointer(c.TF_NewSessionOptions()),
            None,
            exported.encode(),
            (ctypes.c_char_p * 1)(b"serve"),
            1,
            graph,
            meta_graph,
            status,
        )
    )
    check()
    buffer = ctypes.cast(meta_graph, ctypes.POINTER(Buffer)).contents
    signatures = meta_graph_pb2.MetaGraphDef.FromString(
        ctypes.string_at(buffer.data, buffer.length)
    ).signature_def

    def place(tensor_info):
        name, index = tensor_info.name.split(":")
        operation = c.TF_GraphOperationByName(graph, name.encode())
        assert operation, name
        return Output(operation, int(index))

    def allocated(dtype, shape, size):
        dims = (ctypes.c_int64 * len(shape))(*shape)
        size = ctypes.c_size_t(size)
        return pointer(c.TF_AllocateTensor(dtype, dims, len(shape), size))

    def of_floats(array):
        array = np.ascontiguousarray(array)
        fed = allocated(FLOAT, array.shape, array.nbytes)
        ctypes.memmove(c.TF_TensorData(fed), array.ctypes.data, array.nbytes)
        return fed

    def of_strings(strings):
        fed = allocated(STRING, (len(strings),), STRING_BYTES * len(strings))
        for row, string in enumerate(strings):
            string_place = pointer(c.TF_TensorData(fed) + STRING_BYTES * row)
            c.TF_StringInit(string_place)
            c.TF_StringCopy(string_place, string, ctypes.c_size_t(len(string)))
        return fed

    def content(tensor):
        shape = [c.TF_Dim(tensor, axis) for axis in range(c.TF_NumDims(tensor))]
        dtype = np.dtype(DTYPES[c.TF_TensorType(tensor)])
        size = int(np.prod(shape)) * dtype.itemsize
        octets = ctypes.string_at(c.TF_TensorData(tensor), size)
        return np.frombuffer(octets, dtype).reshape(shape)

    def run(name, kind, fed):
        """Outputs of a signature by name, or nothing where the status is not OK."""
        signature = signatures[name]
        names = sorted(signature.outputs)
        outputs = [place(signature.outputs[output]) for output in names]
        fetched = (ctypes.c_void_p * len(names))()
        c.TF_SessionRun(
            session,
            None,
            (Output * 1)(place(signature.inputs[kind])),
            (ctypes.c_void_p * 1)(fed),
            1,
            (Output * len(names))(*outputs),
            fetched,
            len(names),
            None,
            0,
            None,
            status,
        )
        return {
            output: content(pointer(address))
            for output, address in zip(names, fetched, strict=True)
            if address
        }

    # Another dtype, another shape: refused, and what comes next is served.
    for name, kind, fed in (
        ("images", "images", of_strings([b"bytes"])),
        ("images", "images", of_floats(images[:, 1:])),
        ("serving_default", "encoded", of_floats(images)),
    ):
        assert not run(name, kind, fed)
        assert c.TF_GetCode(status) == INVALID_ARGUMENT, c.TF_Message(status).decode()

    for name, kind, rows, fed_of in (
        ("images", "images", images, of_floats),
        ("serving_default", "encoded", encoded, of_strings),
    ):
        for part, count in parts(rows):
            outputs = run(name, kind, fed_of(rows[:count]))
            check()
            for output, array in outputs.items():
                yield f"c/{kind}{part}/{output}", array


def main(exported, inputs, outputs):
    with np.load(inputs) as arrays:
        images = arrays["images"]
        encoded = [
            arrays[f"encoded{row}"].tobytes() for row in range(len(arrays.files) - 1)
        ]
    np.savez(
        outputs,
        **dict(in_python(exported, images, encoded)),
        **dict(in_c(exported, images, encoded)),
    )
    assert all(sys.modules[name] is None for name in ABSENT)


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    main(*sys.argv[1:])
