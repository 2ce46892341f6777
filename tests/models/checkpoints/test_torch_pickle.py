import builtins
import io
import os
import pickle
import struct

import numpy as np
import pytest

from keras_dml.models._checkpoints.torch_pickle import read_torch_pickle
from tests.models.checkpoints.torch_files import BOTH
from tests.models.checkpoints.torch_files import Hostile
from tests.models.checkpoints.torch_files import assert_same
from tests.models.checkpoints.torch_files import legacy_of
from tests.models.checkpoints.torch_files import pickled_tensor
from tests.models.checkpoints.torch_files import read
from tests.models.checkpoints.torch_files import saved
from tests.models.checkpoints.torch_files import zip_of

torch = pytest.importorskip("torch", reason="PyTorch writes the checkpoints")


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
    "allowed global called with nonsense": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "storage called": b"ctorch\nFloatStorage\n)R.",
    "attributes set on a global": b"ccollections\nOrderedDict\n}U\x01aK\x01sb.",
    "number called": b"K\x01)R.",
    "setting an item of a tuple": b")K\x00K\x00s.",
    "hash that takes forever": (
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


@pytest.mark.parametrize("kind", ["ComplexFloatStorage", "QInt8Storage"])
def test_numbers_of_another_kind_are_refused(kind, tmp_path):
    content = zip_of(pickled_tensor((4,), (1,), kind=kind), data__0=bytes(64))
    with pytest.raises(ValueError, match=rf"torch\.{kind}"):
        read(content, tmp_path)


@BOTH
def test_whole_module_is_refused_with_the_way_out(legacy, tmp_path):
    content = saved(torch.nn.Linear(2, 2), legacy)
    with pytest.raises(ValueError, match=r"torch\.nn.*state_dict"):
        read(content, tmp_path)


def test_tensor_with_its_negative_bit_set_is_refused(tmp_path):
    tensor = torch.zeros(3, dtype=torch.complex64).conj().imag
    assert tensor.is_neg()
    with pytest.raises(ValueError, match="resolve_neg"):
        read(saved({"w": tensor}), tmp_path)
