"""Small checkpoints, as PyTorch writes them and as it never would."""

import io
import pickle
import zipfile

import pytest

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
