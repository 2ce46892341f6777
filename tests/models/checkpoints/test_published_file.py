import functools
import hashlib

import keras
import pytest

from keras_dml.models import checkpoint_hash
from keras_dml.models._checkpoints.published_file import download_checkpoint

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    "name",
    [
        f"resnet50-{DIGEST[:8]}.pth",
        f"bn_inception-{DIGEST[:9]}.pth",
        f"resnet50-{DIGEST}.pth.tar",
        "resnet50.pth",
        "resnet-50.safetensors",
        "resnet50-notahash.pth",
    ],
)
def test_file_that_is_what_its_name_says_gives_its_hash(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(CONTENT)
    assert checkpoint_hash(file) == DIGEST


def test_file_of_another_hash_than_its_name_says_is_refused(tmp_path):
    file = tmp_path / "resnet50-0676ba61.pth"
    file.write_bytes(CONTENT)
    with pytest.raises(ValueError, match=rf"0676ba61\.pth.*starts with {DIGEST[:8]}"):
        checkpoint_hash(file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file '.*nowhere\.pth'"):
        checkpoint_hash(tmp_path / "nowhere.pth")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of Keras's downloads, of this test alone."""
    folder = tmp_path / "keras"
    folder.mkdir()
    get_file = functools.partial(keras.utils.get_file, cache_dir=str(folder))
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    return folder / "models"


@pytest.fixture
def url(tmp_path):
    """The address of a file whose name carries the start of its SHA-256."""
    file = tmp_path / f"net-{DIGEST[:8]}.pth"
    file.write_bytes(CONTENT)
    return file.as_uri()


def test_file_is_downloaded_once_into_the_cache_of_keras(url, cache, tmp_path):
    path = download_checkpoint(url)
    assert path == str(cache / f"net-{DIGEST[:8]}.pth")
    (tmp_path / f"net-{DIGEST[:8]}.pth").unlink()
    assert download_checkpoint(url) == path
    with open(path, "rb") as file:
        assert file.read() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"."])
def test_download_of_another_content_is_refused(content, url, cache):
    cached = cache / f"net-{DIGEST[:8]}.pth"
    cached.parent.mkdir()
    cached.write_bytes(content)
    message = rf"{cached}' is not the file that its name says.* delete it first"
    with pytest.raises(OSError, match=message):
        download_checkpoint(url)


def test_failed_download_says_what_to_do(cache):
    # No server listens at port 9 of this machine.
    with pytest.raises(OSError, match=r"can't be downloaded \(.*Give weights=None"):
        download_checkpoint("http://127.0.0.1:9/net-01234567.pth")


def test_missing_published_file_says_what_to_do(cache, tmp_path):
    url = (tmp_path / "none-01234567.pth").as_uri()
    with pytest.raises(OSError, match=r"can't be downloaded \(.*Give weights=None"):
        download_checkpoint(url)
