import hashlib

import pytest

from keras_dml.models._checkpoints.published_file import checkpoint_hash

DIGITS = hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    "name",
    [
        f"resnet50-{DIGITS[:8]}.pth",
        f"bn_inception-{DIGITS[:9]}.pth",
        f"resnet50-{DIGITS}.pth.tar",
        "resnet50.pth",
        "resnet-50.safetensors",
        "resnet50-notahash.pth",
    ],
)
def test_file_that_is_what_its_name_says_gives_its_hash(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(b"weights")
    assert checkpoint_hash(file) == DIGITS


def test_file_of_another_hash_than_its_name_says_is_refused(tmp_path):
    file = tmp_path / "resnet50-0676ba61.pth"
    file.write_bytes(b"weights")
    with pytest.raises(ValueError, match=rf"0676ba61\.pth.*starts with {DIGITS[:8]}"):
        checkpoint_hash(file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file '.*nowhere\.pth'"):
        checkpoint_hash(tmp_path / "nowhere.pth")
