import os
import pathlib
import zipfile

import numpy as np
import pytest

from keras_dml.data.datasets import omniglot

OFFICIAL = pathlib.Path(__file__).parents[3] / "shared" / "data" / "omniglot"


def zipped(file, alphabets, images=2, root="images_background_small1", **others):
    """A zip in the official layout, with {alphabet: characters}, and other members."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for alphabet, characters in alphabets.items():
            for character in range(1, characters + 1):
                folder = f"{root}/{alphabet}/character{character:02}/"
                archive.mkdir(folder)
                for drawer in range(1, images + 1):
                    member = f"{folder}{character:04}_{drawer:02}.png"
                    archive.writestr(member, f"{alphabet} {character} {drawer}")
        for name, content in others.items():
            archive.writestr(name, content)
    return file


@pytest.fixture
def train_zip(tmp_path):
    return zipped(tmp_path / "train.zip", {"Latin": 3, "Greek": 2})


@pytest.fixture
def test_zip(tmp_path):
    return zipped(tmp_path / "test.zip", {"Greek": 2, "Hebrew": 11, "Old Church": 1})


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_characters_are_classes(train_zip, test_zip, cache):
    train, _ = omniglot(train_zip, str(test_zip), str(cache))
    assert train.class_names == (
        "Greek/character01",
        "Greek/character02",
        "Latin/character01",
        "Latin/character02",
        "Latin/character03",
    )
    assert np.bincount(train.labels).tolist() == [2] * 5
    for row, path in enumerate(train.paths):
        alphabet, character = train.class_names[train.labels[row]].split("/")
        content = pathlib.Path(path).read_text()
        assert content == f"{alphabet} {int(character[-2:])} {row % 2 + 1}"


def test_alphabets_that_are_trained_on_are_left_out_of_the_test(
    train_zip, test_zip, cache
):
    _, test = omniglot(train_zip, test_zip, cache)
    assert {name.split("/")[0] for name in test.class_names} == {"Hebrew", "Old Church"}
    assert (len(test), len(test.class_names)) == (24, 12)


def test_no_alphabet_to_test_on_is_refused(train_zip, cache):
    with pytest.raises(ValueError, match="no class is left to test on"):
        omniglot(train_zip, train_zip, cache)


def test_images_are_unpacked_once(train_zip, test_zip, cache, monkeypatch):
    first = omniglot(train_zip, test_zip, cache)
    monkeypatch.setattr(
        zipfile.ZipFile, "extractall", lambda *_: pytest.fail("unpacked again")
    )
    again = omniglot(train_zip, test_zip, cache)
    for part, same in zip(first, again, strict=True):
        assert part.paths.tolist() == same.paths.tolist()


def test_zip_of_other_content_is_unpacked_beside_the_first(train_zip, test_zip, cache):
    omniglot(train_zip, test_zip, cache)
    zipped(train_zip, {"Arabic": 2})
    train, _ = omniglot(train_zip, test_zip, cache)
    assert train.class_names == ("Arabic/character01", "Arabic/character02")


def test_default_cache_is_used(train_zip, test_zip, cache, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(cache))
    train, _ = omniglot(train_zip, test_zip)
    assert pathlib.Path(train.paths[0]).is_relative_to(cache)


def test_missing_file_is_named(train_zip, tmp_path, cache):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip.*[Dd]ownload"):
        omniglot(train_zip, tmp_path / "nowhere.zip", cache)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more"])
def test_file_that_is_no_zip_is_refused(train_zip, test_zip, cache, content):
    train_zip.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.zip' is not a complete zip file"):
        omniglot(train_zip, test_zip, cache)
    assert os.listdir(cache) == []


def test_truncated_zip_is_refused(train_zip, test_zip, cache):
    content = train_zip.read_bytes()
    train_zip.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"train\.zip' is not a complete zip file"):
        omniglot(train_zip, test_zip, cache)
    assert os.listdir(cache) == []


@pytest.mark.parametrize("offset", [0, 20, 60])
def test_zip_with_damaged_image_is_refused(train_zip, test_zip, cache, offset):
    name = "images_background_small1/Latin/character02/big.png"
    noise = np.random.default_rng(0).integers(0, 16, 4000, np.uint8).tobytes()
    zipped(train_zip, {"Latin": 3}, **{name: noise})
    content = bytearray(train_zip.read_bytes())
    start = content.index(name.encode()) + len(name) + offset
    for place in range(start, start + 8):
        content[place] ^= 255
    train_zip.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.zip' is not a complete zip file"):
        omniglot(train_zip, test_zip, cache)
    assert os.listdir(cache) == []


def test_zip_of_other_things_is_refused(train_zip, test_zip, cache):
    zipped(train_zip, {}, **{"strokes/Latin/character01/0001_01.txt": "1,2"})
    with pytest.raises(ValueError, match=r"train\.zip' holds no ALPHABET/characterNN"):
        omniglot(train_zip, test_zip, cache)
    assert os.listdir(cache) == []


def test_other_members_are_not_unpacked(train_zip, test_zip, cache):
    others = {
        "README.txt": "about",
        "__MACOSX/images/Latin/character01/._0001_01.png": "resource fork",
        "images/Latin/character01/thumbs.db": "thumbnails",
    }
    zipped(train_zip, {"Latin": 3}, **others)
    train, _ = omniglot(train_zip, test_zip, cache)
    assert len(train) == 6
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert all(name.endswith(".png") and name[0] == "0" for name in names)


def test_members_that_point_elsewhere_write_nothing_there(
    tmp_path, train_zip, test_zip, cache
):
    (tmp_path / "a").mkdir()
    cache = tmp_path / "a" / "cache"
    others = {
        "../Latin/character01/evil.png": "evil",
        "images/../character01/evil.png": "evil",
        "../../Latin/character01/evil.png": "evil",
        "/Latin/character01/evil.png": "evil",
    }
    zipped(train_zip, {"Latin": 3}, **others)
    train, _ = omniglot(train_zip, test_zip, cache)
    assert len(train) == 6
    outside = [path for path in tmp_path.rglob("evil.png") if cache not in path.parents]
    assert outside == []
    assert {folder.name.split("-")[0] for folder in cache.iterdir()} == {"omniglot"}


@pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="the official Omniglot zip files are not here"
)
def test_official_small_files_have_the_documented_counts(tmp_path):
    train, test = omniglot(
        OFFICIAL / "images_background_small1.zip",
        OFFICIAL / "images_background_small2.zip",
        tmp_path,
    )
    assert (len(train.class_names), len(train)) == (136, 2720)
    assert (len(test.class_names), len(test)) == (106, 2120)
    for part in (train, test):
        assert set(np.bincount(part.labels)) == {20}
    images = next(iter(test.images(28)))
    assert images.shape == (100, 28, 28, 3)
    assert images.numpy().min() == 0 and images.numpy().max() == 255
