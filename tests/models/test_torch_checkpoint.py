import builtins
import io
import os
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint
from keras_dml.models._checkpoints.torch_pickle import read_torch_pickle
from tests.models.torch_files import legacy_of
from tests.models.torch_files import saved
from tests.models.torch_files import zip_of

torch = pytest.importorskip("torch", reason="PyTorch writes the checkpoints")
safetensors = pytest.importorskip("safetensors", reason="it writes .safetensors")

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def read(content, tmp_path, name="weights.pth"):
    file = tmp_path / name
    file.write_bytes(content)
    return read_torch_checkpoint(file)


def as_numpy(tensor):
    """The array that PyTorch itself makes of a tensor."""
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        array = as_numpy(tensor)
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


def small():
    return {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "conv.bias": torch.tensor([0.5, -1.5]),
    }


@st.composite
def tensors(draw):
    """A tensor of any dtype, whole or a view with steps, offset and axes turned."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    seed = draw(st.integers(0, 2**31 - 1))
    generator = torch.Generator().manual_seed(seed)
    base = torch.randint(-100, 100, shape, generator=generator)
    base = base.to(draw(st.sampled_from(DTYPES)))
    for axis, length in enumerate(shape):
        start = draw(st.integers(0, length))
        base = base.narrow(axis, start, length - start)
        if base.shape[axis]:
            steps = [slice(None)] * axis + [slice(None, None, draw(st.integers(1, 3)))]
            base = base[tuple(steps)]
    return base.permute(draw(st.permutations(range(base.ndim))))


@BOTH
@settings(max_examples=60)
@given(named=st.dictionaries(st.text(max_size=5), tensors(), min_size=1, max_size=4))
def test_tensors_are_those_that_pytorch_saved(named, legacy, tmp_path_factory):
    content = saved(named, legacy)
    found = read(content, tmp_path_factory.mktemp("saved"))
    loaded = torch.load(io.BytesIO(content))
    if all(name.startswith("module.") for name in loaded):
        return
    assert_same(found, loaded)


@settings(max_examples=30)
@given(
    named=st.dictionaries(
        st.text("abc._", min_size=1, max_size=5), tensors(), min_size=1, max_size=4
    )
)
def test_safetensors_are_those_that_were_saved(named, tmp_path_factory):
    from safetensors.torch import save

    named = {name: tensor.contiguous().clone() for name, tensor in named.items()}
    found = read(save(named), tmp_path_factory.mktemp("saved"), "weights.safetensors")
    assert_same({name: found[name] for name in named}, named)
    assert set(found) == set(named)


@BOTH
def test_module_s_state_dict_with_its_metadata_and_counters_is_read(legacy, tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    assert_same(read(saved(module.state_dict(), legacy), tmp_path), module.state_dict())


@BOTH
def test_parameters_are_read(legacy, tmp_path):
    named = {"w": torch.nn.Parameter(torch.randn(3, 2).T)}
    assert_same(read(saved(named, legacy), tmp_path), named)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_tensors_of_one_storage_share_memory(dtype, legacy, tmp_path):
    base = torch.arange(12.0).to(dtype)
    named = {"all": base, "row": base[3:7], "turned": base.reshape(3, 4).T}
    found = read(saved(named, legacy), tmp_path)
    assert_same(found, named)
    assert np.shares_memory(found["all"], found["turned"])


@BOTH
def test_arrays_are_read_only(legacy, tmp_path):
    for array in read(saved(small(), legacy), tmp_path).values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@BOTH
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_wrapped_state_dict_is_found_and_the_rest_passed_over(key, legacy, tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], 0.1, 0.9)
    checkpoint = {
        "epoch": 3,
        "arch": "resnet50",
        "best": torch.tensor(76.0),
        "nothing": None,
        key: small(),
        "optimizer": optimizer.state_dict(),
    }
    assert_same(read(saved(checkpoint, legacy), tmp_path), small())


def test_values_beside_the_tensors_are_passed_over(tmp_path):
    checkpoint = {"version": 2, "lr": 0.1, "names": ["a", ("b", True)], **small()}
    assert_same(read(saved(checkpoint), tmp_path), small())


def test_prefix_of_data_parallel_is_taken_off_where_all_names_have_it(tmp_path):
    parallel = {f"module.{name}": tensor for name, tensor in small().items()}
    assert_same(read(saved(parallel), tmp_path), small())
    mixed = {**parallel, "other": torch.zeros(1)}
    assert_same(read(saved(mixed), tmp_path), mixed)


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


# What Python 2 and PyTorch before 0.4 wrote: byte strings, an OrderedDict made of a
# list of pairs, and _rebuild_tensor.
PYTHON_2 = (
    b"\x80\x02ccollections\nOrderedDict\n]]U\x01aa"
    b"ctorch._utils\n_rebuild_tensor\n"
    b"((U\x07storagectorch\nFloatStorage\nU\x03123U\x03cpuK\x02NtQ"
    b"K\x00K\x02\x85K\x01\x85tRaa\x85R."
)


def test_python_2_and_old_pytorch_are_read(tmp_path):
    storage = struct.pack("<q2f", 2, 1.5, -2.0)
    content = legacy_of(PYTHON_2, ["123"], storage)
    expected = torch.load(io.BytesIO(content), weights_only=False)
    assert expected["a"].tolist() == [1.5, -2.0]
    assert_same(read(content, tmp_path), expected)


class Hostile:
    """Pickles to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_pickles(marker):
    """{how: (pickle, the global to be named)}; each makes the marker file if run."""
    system = Hostile(os.system, f"touch {marker}")
    touch = f"touch {marker}".encode()
    source = f"open({str(marker)!r}, 'w').close()"
    named = "posix.system" if os.name == "posix" else "nt.system"
    return {
        "system": (pickle.dumps(system, 2), named),
        "nested": (pickle.dumps({"a": [1, ({"b": system},)]}, 2), named),
        "beside": (pickle.dumps({"state_dict": {}, "x": system}, 2), named),
        "eval": (pickle.dumps(Hostile(builtins.eval, source), 2), "__builtin__.eval"),
        "exec": (pickle.dumps(Hostile(builtins.exec, source), 2), "__builtin__.exec"),
        "inst": (
            b"(X%b%bios\nsystem\n." % (struct.pack("<I", len(touch)), touch),
            "INST",
        ),
        "obj": (f"(cos\nsystem\nS'touch {marker}'\no.".encode(), "os.system"),
        "stack global": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "protocol 4"),
        "stack global in 2": (b"\x80\x02\x8c\x02os\x8c\x06system\x93.", "SHORT_BIN"),
        "numpy": (
            pickle.dumps({"a": np.zeros(3)}, 2),
            r"numpy\.(_core|core)\.(multiarray|numeric)\._(reconstruct|frombuffer)",
        ),
        "dotted": (b"\x80\x02ctorch\n_utils.os.system\n.", "torch._utils.os.system"),
        "storage of elsewhere": (b"\x80\x02cos\nFloatStorage\n.", "os.FloatStorage"),
        "import": (b"\x80\x02cthis_module_is_not\nthere\n.", "this_module_is_not"),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    }


@pytest.mark.parametrize("how", hostile_pickles("marker"))
@BOTH
def test_hostile_pickle_is_refused_by_name_and_nothing_runs(how, legacy, tmp_path):
    marker = tmp_path / "ran"
    pickled, named = hostile_pickles(marker)[how]
    content = legacy_of(pickled) if legacy else zip_of(pickled)
    with pytest.raises(ValueError, match=named) as caught:
        read(content, tmp_path)
    assert "weights.pth" in str(caught.value)
    assert "torch.save(model.state_dict()" in str(caught.value)
    assert not marker.exists()


def test_the_hostile_pickles_would_have_run(tmp_path):
    """So that the test above is worth something."""
    for how in ("system", "nested", "eval", "exec", "inst", "obj"):
        marker = tmp_path / how.replace(" ", "_")
        pickle.loads(hostile_pickles(marker)[how][0])
        assert marker.exists(), how


@pytest.mark.parametrize("position", range(4))
def test_hostile_pickle_anywhere_in_the_old_format_is_refused(position, tmp_path):
    marker = tmp_path / "ran"
    hostile = pickle.dumps(Hostile(os.system, f"touch {marker}"), 2)
    pickles = [pickle.dumps(one, 2) for one in (1001, {}, {}, [])]
    pickles[position] = hostile
    content = legacy_of(b"")[:15] + b"".join(pickles)
    with pytest.raises(ValueError, match=r"posix\.system"):
        read(content, tmp_path)
    assert not marker.exists()


CALLS = {
    "admitted global called with nonsense": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "storage called": b"ctorch\nFloatStorage\n)R.",
    "attributes set on a global": b"ccollections\nOrderedDict\n}U\x01aK\x01sb.",
    "number called": b"K\x01)R.",
    "setting an item of a tuple": b")K\x00K\x00s.",
    "hash that takes for ever": (
        b"K\x01\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"}h\x00K\x00s."
    ),
    "empty stack": b".",
    "no mark": b"t.",
    "unknown memo": b"h\x07.",
    "huge memo": b"r\xff\xff\xff\xffK\x01.",
    "cut off": b"}q\x00(X\x04\x00\x00\x00conv",
    "string longer than the file": b"X\xff\xff\xff\x7fabc.",
    "nothing": b"",
    "unknown opcode": b"\xff.",
    "odd items": b"}(K\x01u.",
    "storage of another shape": b"U\x07storageQ.",
}


@pytest.mark.parametrize("how", CALLS)
@BOTH
def test_pickle_that_pytorch_never_writes_is_refused(how, legacy, tmp_path):
    pickled = b"\x80\x02" + CALLS[how]
    with pytest.raises(ValueError, match=r"weights\.pth"):
        read(legacy_of(pickled) if legacy else zip_of(pickled), tmp_path)


def pickled_tensor(size, stride, offset=0, count=4, kind="FloatStorage", key="0"):
    """A state dict whose one tensor, "w", claims this of its storage."""

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


def test_claims_within_the_storage_are_read(tmp_path):
    data = np.arange(4, dtype="<f4").tobytes()
    content = zip_of(pickled_tensor((2,), (2,), 1), data__0=data)
    np.testing.assert_array_equal(read(content, tmp_path)["w"], [1, 3])


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((5,), (1,), 0),
        ((4,), (1,), 1),
        ((2,), (4,), 0),
        ((2, 2), (1, 3), 0),
        ((1,), (1,), 4),
        ((1,), (1,), -1),
        ((2,), (-1,), 3),
        ((-1,), (1,), 0),
        ((-2, -2), (1, 1), 0),
        ((2,), (1, 1), 0),
        ((1000, 1000), (0, 0), 0),
        ((2**62, 4), (0, 0), 0),
        ((2**70,), (1,), 0),
        ((0, 2**70), (1, 1), 0),
        ((2,), (2**70,), 0),
    ],
)
@BOTH
def test_tensor_beyond_its_storage_is_refused(size, stride, offset, legacy, tmp_path):
    pickled = pickled_tensor(size, stride, offset)
    data = np.arange(4, dtype="<f4").tobytes()
    if legacy:
        content = legacy_of(pickled, ["0"], struct.pack("<q", 4) + data)
    else:
        content = zip_of(pickled, data__0=data)
    with pytest.raises(ValueError, match=r"weights\.pth.*tensor 'w'"):
        read(content, tmp_path)


@pytest.mark.parametrize(("size", "stride"), [((1,) * 33, (1,)), ((1,), (1,) * 33)])
@BOTH
def test_tensor_of_more_axes_than_an_array_can_have_is_refused(
    size, stride, legacy, tmp_path
):
    pickled = pickled_tensor(size, stride)
    content = legacy_of(pickled) if legacy else zip_of(pickled)
    with pytest.raises(ValueError, match=r"weights\.pth.*more than 32 axes"):
        read(content, tmp_path)


def test_list_of_pairs_named_again_and_again_makes_one_dictionary():
    """Or 500 pairs and 500 names of their list would make 250,000 entries."""
    pairs = b"".join(b"](M" + struct.pack("<H", key) + b"Ne" for key in range(500))
    content = b"\x80\x02](" + pairs + b"eq\x00ccollections\nOrderedDict\nq\x01("
    content += b"h\x01h\x00\x85R" * 500 + b"t."
    assert sum(map(len, pickle.loads(content))) == 250_000
    (first, *others), _ = read_torch_pickle(io.BytesIO(content))
    assert first == dict.fromkeys(range(500))
    assert not any(others)


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


@pytest.mark.parametrize("kind", ["ComplexFloatStorage", "QInt8Storage"])
def test_numbers_of_another_kind_are_refused(kind, tmp_path):
    content = zip_of(pickled_tensor((4,), (1,), kind=kind), data__0=bytes(64))
    with pytest.raises(ValueError, match=rf"torch\.{kind}"):
        read(content, tmp_path)


def test_eight_bit_floats_of_safetensors_are_refused(tmp_path):
    from safetensors.torch import save

    content = save({"w": torch.zeros(3).to(torch.float8_e5m2)})
    with pytest.raises(ValueError, match=r"'w' is of dtype F8_E5M2.*tensor\.float"):
        read(content, tmp_path)


@BOTH
def test_every_way_of_cutting_a_file_off_is_refused(legacy, tmp_path):
    content = saved(small(), legacy)
    # Beyond its last storage the old format has nothing; the zip's index is last.
    for length in range(0, len(content), 7):
        with pytest.raises(ValueError, match=r"weights\.pth.* Download it again"):
            read(content[:length], tmp_path)
    with pytest.raises(ValueError, match=r"weights\.pth.* Download it again"):
        read(content[:-1], tmp_path)


def test_every_way_of_cutting_safetensors_off_is_refused(tmp_path):
    from safetensors.numpy import save

    content = save({"w": np.arange(6.0)})
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"weights\.pth"):
            read(content[:length], tmp_path)


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


@pytest.mark.parametrize("safe", [False, True], ids=["legacy", "safetensors"])
@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damage_without_checksums_gives_arrays_or_a_value_error(data, safe, tmp_path):
    """These formats can't tell that a number has changed."""
    from safetensors.torch import save

    content = bytearray(save(small()) if safe else saved(small(), legacy=True))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content), tmp_path)
    except ValueError as error:
        assert "weights.pth" in str(error)
    else:
        assert sum(array.nbytes for array in found.values()) <= 2 * len(content)


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


@BOTH
def test_whole_module_is_refused_with_the_way_out(legacy, tmp_path):
    content = saved(torch.nn.Linear(2, 2), legacy)
    with pytest.raises(ValueError, match=r"torch\.nn.*state_dict"):
        read(content, tmp_path)


@BOTH
@pytest.mark.parametrize(
    "checkpoint",
    [{}, [], {"epoch": 3}, {"state_dict": {"a": 1}}, 3, None, {3: torch.zeros(2)}],
)
def test_checkpoint_without_named_tensors_is_refused(checkpoint, legacy, tmp_path):
    with pytest.raises(ValueError, match="no dictionary of named tensors"):
        read(saved(checkpoint, legacy), tmp_path)


@BOTH
def test_single_tensor_is_refused(legacy, tmp_path):
    with pytest.raises(ValueError, match="no dictionary of named tensors"):
        read(saved(torch.zeros(3), legacy), tmp_path)


def test_tensor_with_its_negative_bit_set_is_refused(tmp_path):
    tensor = torch.zeros(3, dtype=torch.complex64).conj().imag
    assert tensor.is_neg()
    with pytest.raises(ValueError, match="resolve_neg"):
        read(saved({"w": tensor}), tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\x89HDF\r\n\x1a\n", b"<!DOCTYPE html>", bytes(100), b"PK\x05\x06"],
)
def test_file_of_another_format_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"weights\.pth.*no PyTorch checkpoint"):
        read(content, tmp_path)


def test_other_zip_archive_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photo.jpg", b"")
    with pytest.raises(ValueError, match="has not written: it has 0 files"):
        read(stream.getvalue(), tmp_path)


def test_other_magic_number_or_protocol_is_refused(tmp_path):
    pickled = pickle.dumps({}, 2)
    with pytest.raises(ValueError, match="no PyTorch checkpoint"):
        read(legacy_of(pickled, magic=0x1950A86A20F9469CFC6D), tmp_path)
    with pytest.raises(ValueError, match="its protocol is not 1001"):
        read(legacy_of(pickled, protocol=1002), tmp_path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file '.*nowhere\.pth'"):
        read_torch_checkpoint(tmp_path / "nowhere.pth")


def test_safetensors_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
    from safetensors.numpy import save

    content = save({"w": np.arange(6.0)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        read(content, tmp_path)
