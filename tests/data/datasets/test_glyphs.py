import importlib
import os
import pathlib
import re
import shutil

import matplotlib
import numpy as np
import pytest
from PIL import Image

from keras_dml.data.datasets.glyphs import glyphs

# The module's name in its package may come to stand for its function.
module = importlib.import_module("keras_dml.data.datasets.glyphs")
FEW = ["AΑА", "Bв", "OoО", "ж", "ω", "Ω"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def parts(cache):
    return glyphs(cache)


@pytest.fixture(scope="module")
def letter_classes():
    return module._letter_classes()


@pytest.fixture
def few_classes(monkeypatch):
    monkeypatch.setattr(module, "_letter_classes", lambda: FEW)


def _contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _code_points(part):
    return {pathlib.Path(path).name.split("_")[0] for path in part.paths}


def test_train_and_test_share_no_character(parts):
    train, test = parts
    assert not set(train.class_names) & set(test.class_names)
    assert not _code_points(train) & _code_points(test)


def test_each_class_has_images_from_every_face(parts):
    for part in parts:
        counts = np.bincount(part.labels)
        assert set(counts) == {module.IMAGES_PER_FACE * len(module.FACES)}
        faces = [pathlib.Path(path).name.split("_")[1] for path in part.paths]
        pairs = set(zip(part.labels.tolist(), faces, strict=True))
        assert len(pairs) == len(part.class_names) * len(module.FACES)


def test_images_are_gray_and_32_pixels_a_side(parts):
    for part in parts:
        with Image.open(part.paths[0]) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))


def test_labels_agree_with_the_folders(parts):
    for part in parts:
        folders = [pathlib.Path(path).parent.name for path in part.paths]
        assert folders == [part.class_names[label] for label in part.labels]


def test_class_names_are_safe_folder_names_whatever_the_case(parts):
    names = [name for part in parts for name in part.class_names]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(re.fullmatch(r"U\+[0-9A-F]{4}_[a-z_-]+", name) for name in names)


def test_class_name_is_readable():
    assert module._class_name("AΑА") == "U+0041_latin_capital_letter_a"


def test_raw_pixels_stay_below_half(parts):
    test = parts[1]
    images = np.stack([np.asarray(Image.open(path)) for path in test.paths])
    pixels = images[:, 2:30, 2:30].reshape(len(images), -1).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    scores = pixels @ pixels.T
    np.fill_diagonal(scores, -np.inf)
    recall = np.mean(test.labels[scores.argmax(axis=1)] == test.labels)
    assert 0.2 < recall < 0.5


def test_cached_copy_is_reused_without_drawing(parts, cache, monkeypatch):
    def refuse(*args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "_draw_dataset", refuse)
    before = {path: os.stat(path).st_mtime_ns for path in parts[0].paths}
    again = glyphs(str(cache))
    for part, same in zip(parts, again, strict=True):
        assert np.array_equal(part.paths, same.paths)
        assert np.array_equal(part.labels, same.labels)
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


@pytest.mark.parametrize("alike", ["AΑА", "EΕЕ", "oο", "oо", "oO", "cC", "xX", "sѕ"])
def test_letters_drawn_alike_are_one_class(letter_classes, alike):
    assert sum(set(alike) <= set(members) for members in letter_classes) == 1


@pytest.mark.parametrize("pair", ["AΛ", "bd", "OQ", "ЪЬ", "ЦЩ", "Il", "γy", "EF"])
def test_letters_drawn_apart_are_two_classes(letter_classes, pair):
    assert not any(set(pair) <= set(members) for members in letter_classes)


def test_each_character_is_in_one_class(letter_classes):
    characters = "".join(letter_classes)
    assert len(characters) == len(set(characters))
    assert set("azAZαωΑΩагяАЯ") - {"ς"} <= set(characters)
    assert not set("éÉёйΆ") & set(characters)


def test_same_seed_gives_the_same_bytes(tmp_path, few_classes):
    glyphs(tmp_path / "one", seed=7)
    glyphs(tmp_path / "two", seed=7)
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")


def test_other_seed_gives_other_pixels(tmp_path):
    module._draw(tmp_path / "0", ["ж"], seed=0)
    module._draw(tmp_path / "1", ["ж"], seed=1)
    zero, one = _contents(tmp_path / "0"), _contents(tmp_path / "1")
    assert zero.keys() == one.keys()
    assert all(zero[name] != one[name] for name in zero)


def test_seeds_are_kept_apart_in_one_cache(tmp_path, few_classes):
    first, _ = glyphs(tmp_path, seed=1)
    second, _ = glyphs(tmp_path, seed=2)
    assert not set(first.paths) & set(second.paths)


def test_image_does_not_depend_on_what_else_is_drawn(tmp_path):
    module._draw(tmp_path / "alone", ["ж"], seed=0)
    module._draw(tmp_path / "among", ["ω", "ж"], seed=0)
    alone, among = _contents(tmp_path / "alone"), _contents(tmp_path / "among")
    assert alone.items() < among.items()


def test_interrupted_drawing_leaves_nothing(tmp_path, few_classes, monkeypatch):
    distort = module._distort
    drawn = []

    def interrupt(glyph, rng):
        drawn.append(glyph)
        if len(drawn) == 100:
            raise KeyboardInterrupt
        return distort(glyph, rng)

    monkeypatch.setattr(module, "_distort", interrupt)
    with pytest.raises(KeyboardInterrupt):
        glyphs(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_drawn_folder_of_a_killed_process_is_not_used(
    tmp_path, few_classes, monkeypatch
):
    # A killed process cannot tidy up, so its unfinished folder stays behind.
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **options: None)
    monkeypatch.setattr(module, "_distort", lambda glyph, rng: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        glyphs(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    monkeypatch.setattr(module, "_letter_classes", lambda: FEW)
    train, test = glyphs(tmp_path)
    assert len(train) == len(test) == 3 * 32


def test_copy_that_another_process_finished_first_is_used(
    tmp_path, few_classes, monkeypatch
):
    draw = module._draw

    def draw_late(folder, classes, seed):
        draw(folder, classes, seed)
        if folder.name == "test":
            monkeypatch.setattr(module, "_draw", draw)
            glyphs(tmp_path)

    monkeypatch.setattr(module, "_draw", draw_late)
    train, test = glyphs(tmp_path)
    assert len(train) == len(test) == 3 * 32
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("version", ["GENERATOR_VERSION", "FACES"])
def test_stale_copy_is_not_reused(version, monkeypatch):
    before = module._digest()
    changed = {"GENERATOR_VERSION": -1, "FACES": module.FACES[:-1]}
    monkeypatch.setattr(module, version, changed[version])
    assert module._digest() != before


@pytest.mark.parametrize("seed", [-1, 0.0, "0", None, True])
def test_wrong_seed_is_refused(tmp_path, seed):
    with pytest.raises(ValueError, match=f"seed must be .* got {seed!r}"):
        glyphs(tmp_path, seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_default_cache_dir_is_used(tmp_path, few_classes, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(tmp_path))
    train, _ = glyphs()
    assert tmp_path in pathlib.Path(train.paths[0]).parents


def test_numpy_integer_seed_is_the_integer(tmp_path, few_classes):
    assert glyphs(tmp_path, np.int64(3))[0].paths[0] in glyphs(tmp_path, 3)[0].paths


def test_missing_font_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"DejaVuSans\.ttf.*Reinstall"):
        glyphs(tmp_path / "cache")
