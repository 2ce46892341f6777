import io
import struct
import sys

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
def test_wrapped_state_dict_is_found_and_the_rest_ignored(key, legacy, tmp_path):
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


def test_values_beside_the_tensors_are_ignored(tmp_path):
    checkpoint = {"version": 2, "lr": 0.1, "names": ["a", ("b", True)], **small()}
    assert_same(read(saved(checkpoint), tmp_path), small())


def test_prefix_of_data_parallel_is_taken_off_where_all_names_have_it(tmp_path):
    parallel = {f"module.{name}": tensor for name, tensor in small().items()}
    assert_same(read(saved(parallel), tmp_path), small())
    mixed = {**parallel, "other": torch.zeros(1)}
    assert_same(read(saved(mixed), tmp_path), mixed)


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


def test_eight_bit_floats_of_safetensors_are_refused(tmp_path):
    from safetensors.torch import save

    content = save({"w": torch.zeros(3).to(torch.float8_e5m2)})
    with pytest.raises(ValueError, match=r"'w' is of dtype F8_E5M2.*tensor\.float"):
        read(content, tmp_path)


def test_every_way_of_cutting_safetensors_off_is_refused(tmp_path):
    from safetensors.numpy import save

    content = save({"w": np.arange(6.0)})
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"weights\.pth"):
            read(content[:length], tmp_path)


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


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00", b"\x89HDF\r\n\x1a\n", b"<!DOCTYPE html>", bytes(100), b"PK\x05\x06"],
)
def test_file_of_another_format_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"weights\.pth.*not a PyTorch checkpoint"):
        read(content, tmp_path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file '.*nowhere\.pth'"):
        read_torch_checkpoint(tmp_path / "nowhere.pth")


def test_safetensors_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
    from safetensors.numpy import save

    content = save({"w": np.arange(6.0)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install \"keras_dml\[safetensors\]\""):
        read(content, tmp_path)
