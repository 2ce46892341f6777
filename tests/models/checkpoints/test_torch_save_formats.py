import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint
from tests.models.checkpoints.torch_files import BOTH
from tests.models.checkpoints.torch_files import assert_same
from tests.models.checkpoints.torch_files import legacy_of
from tests.models.checkpoints.torch_files import pickled_tensor
from tests.models.checkpoints.torch_files import read
from tests.models.checkpoints.torch_files import saved
from tests.models.checkpoints.torch_files import small
from tests.models.checkpoints.torch_files import zip_of

torch = pytest.importorskip("torch", reason="PyTorch writes the checkpoints")


def big_endian(content):
    """The same checkpoint, of float32 alone, as a big-endian machine writes it."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(stream, "w") as target,
    ):
        for name in source.namelist():
            data = source.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            if name.endswith("byteorder"):
                data = b"big"
            target.writestr(name, data)
    return stream.getvalue()


def test_big_endian_archive_is_read(tmp_path):
    content = big_endian(saved(small()))
    assert_same(read(content, tmp_path), torch.load(io.BytesIO(content)))
    assert_same(read(content, tmp_path), small())


def test_archive_without_byte_order_or_of_a_nested_folder_is_read(tmp_path):
    with zipfile.ZipFile(io.BytesIO(saved(small()))) as source:
        members = {
            name.removeprefix("archive/").replace("/", "__"): source.read(name)
            for name in source.namelist()
        }
    pickled = members.pop("data.pkl")
    del members["byteorder"]
    assert_same(read(zip_of(pickled, root="some/where/", **members), tmp_path), small())


def test_storage_of_another_length_than_the_pickle_says_is_refused(tmp_path):
    pickled = pickled_tensor((4,), (1,), count=4)
    with pytest.raises(ValueError, match="'archive/data/0' has 15 bytes, not 4"):
        read(zip_of(pickled, data__0=bytes(15)), tmp_path)
    for count, data in ((3, bytes(12)), (4, bytes(15)), (-1, b""), (2**62, b"")):
        storage = struct.pack("<q", count) + data
        with pytest.raises(ValueError, match="cut off or damaged at byte"):
            read(legacy_of(pickled, ["0"], storage), tmp_path)


def test_missing_storage_is_named(tmp_path):
    pickled = pickled_tensor((4,), (1,), key="7")
    with pytest.raises(ValueError, match="lacks its storage 'archive/data/7'"):
        read(zip_of(pickled, data__0=bytes(16)), tmp_path)
    with pytest.raises(ValueError, match="list of storages"):
        read(legacy_of(pickled, ["8"], struct.pack("<q", 4) + bytes(16)), tmp_path)


@BOTH
def test_every_way_of_cutting_a_file_off_is_refused(legacy, tmp_path):
    content = saved(small(), legacy)
    # Beyond its last storage the old format has nothing; the zip's index is last.
    for length in range(0, len(content), 7):
        with pytest.raises(ValueError, match=r"weights\.pth.* Download it again"):
            read(content[:length], tmp_path)
    with pytest.raises(ValueError, match=r"weights\.pth.* Download it again"):
        read(content[:-1], tmp_path)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_zip_gives_the_right_values_or_a_value_error(data, tmp_path):
    content = bytearray(saved(small()))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content), tmp_path)
    except ValueError as error:
        assert "weights.pth" in str(error)
    else:
        assert_same(found, small())


def test_changed_byte_of_a_storage_in_a_zip_is_noticed(tmp_path):
    content = saved(small())
    position = content.index(np.float32(7).tobytes())
    damaged = content[:position] + b"\x01" + content[position + 1 :]
    with pytest.raises(ValueError, match=r"'archive/data/0'.*damaged \(Bad CRC"):
        read(damaged, tmp_path)


def test_compressed_archive_is_refused_before_it_is_expanded(tmp_path):
    pickled = pickled_tensor((4,), (1,), count=10**8)
    bomb = zip_of(pickled, compression=zipfile.ZIP_DEFLATED, data__0=bytes(10**7))
    assert len(bomb) < 10**5
    with pytest.raises(ValueError, match=r"compressed.*torch\.save"):
        read(bomb, tmp_path)


def test_archive_that_claims_more_than_the_file_has_is_refused(tmp_path):
    content = zip_of(pickled_tensor((4,), (1,)), data__0=bytes(1000))
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    end = bytearray(content[content.index(b"PK\x05\x06") :])
    copies = 30
    # The same two members again and again, as in a bomb that needs no compression.
    struct.pack_into("<HHI", end, 8, 2 * copies, 2 * copies, copies * len(entry))
    with pytest.raises(ValueError, match="claims more bytes than the file has"):
        read(content[:start] + copies * entry + end, tmp_path)


def test_torchscript_is_refused_with_the_way_out(tmp_path):
    file = tmp_path / "script.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(file)
    with pytest.raises(ValueError, match=r"script\.pt.*TorchScript.*state_dict"):
        read_torch_checkpoint(file)


def test_other_zip_archive_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(ValueError, match=r"not one of torch\.save: it has 0 files"):
        read(stream.getvalue(), tmp_path)


def test_other_magic_number_or_protocol_is_refused(tmp_path):
    pickled = pickle.dumps({}, 2)
    with pytest.raises(ValueError, match="not a PyTorch checkpoint"):
        read(legacy_of(pickled, magic=0x1950A86A20F9469CFC6D), tmp_path)
    with pytest.raises(ValueError, match="its protocol is not 1001"):
        read(legacy_of(pickled, protocol=1002), tmp_path)
