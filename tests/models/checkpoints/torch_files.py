"""Small checkpoints, as PyTorch writes them and as it never would."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])

MAGIC = 0x1950A86A20F9469CFC6C


def saved(checkpoint, legacy=False):
    """The bytes that torch.save writes."""
    torch = pytest.importorskip("torch", reason="PyTorch writes the checkpoints")
    stream = io.BytesIO()
    torch.save(checkpoint, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def zip_of(data_pkl, root="archive/", compression=zipfile.ZIP_STORED, **members):
    """A zip archive like torch.save's with this pickle in it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr(f"{root}data.pkl", data_pkl)
        for name, data in members.items():
            archive.writestr(root + name.replace("__", "/"), data)
    return stream.getvalue()


def legacy_of(pickled, keys=(), storages=b"", magic=MAGIC, protocol=1001):
    """A checkpoint in the old format with this pickle in it."""
    system = {"protocol_version": 1001, "little_endian": True}
    return (
        pickle.dumps(magic, 2)
        + pickle.dumps(protocol, 2)
        + pickle.dumps(system, 2)
        + pickled
        + pickle.dumps(list(keys), 2)
        + storages
    )


def read(content, tmp_path, name="weights.pth"):
    """The tensors of a file with this content."""
    file = tmp_path / name
    file.write_bytes(content)
    return read_torch_checkpoint(file)


def as_numpy(tensor):
    """The array that PyTorch itself makes of a tensor."""
    import torch

    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = as_numpy(tensor)
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


def small():
    """A state dict of two tensors."""
    import torch

    return {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "conv.bias": torch.tensor([0.5, -1.5]),
    }


class Hostile:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickled_tensor(size, stride, offset=0, count=4, kind="FloatStorage", key="0"):
    """A state dict whose one tensor, "w", claims this of its storage."""
    import torch

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if value != "the storage":
                return None
            return ("storage", getattr(torch, kind), key, "cpu", count)

    rebuild = Hostile(
        torch._utils._rebuild_tensor_v2,
        "the storage",
        offset,
        size,
        stride,
        False,
        {},
    )
    stream = io.BytesIO()
    Pickler(stream, 2).dump({"w": rebuild})
    return stream.getvalue()
