import importlib
import itertools
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_dml.data.datasets.glyph_strings import glyph_strings
from keras_dml.data.datasets.glyphs import glyphs

# The modules' names in their package may come to stand for their functions.
module = importlib.import_module("keras_dml.data.datasets.glyph_strings")
glyphs_module = importlib.import_module("keras_dml.data.datasets.glyphs")
FEW = {"classes": 20, "images_per_class": 3, "test_classes": 10}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the glyphs of three letters to train on and three to test on."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        letters = ["AΑА", "Bв", "OoО", "ж", "ω", "Ω"]
        patch.setattr(glyphs_module, "_letter_classes", lambda: letters)
        for seed in (0, 1):
            glyphs(folder, seed)
    return folder


@pytest.fixture
def empty(tmp_path, cache):
    """A cache with the same glyphs and no strings of them."""
    for folder in cache.glob("glyphs-*"):
        (tmp_path / folder.name).symlink_to(folder)
    return tmp_path


@pytest.fixture(scope="module")
def parts(cache):
    return glyph_strings(**FEW, cache_dir=cache)


def _letters(part):
    return [name.split("_") for name in part.class_names]


def _pixels(part):
    """The content of each file, by its name and its label."""
    files = [pathlib.Path(path) for path in part.paths]
    return {
        (file.name, label): file.read_bytes()
        for file, label in zip(files, part.labels.tolist(), strict=True)
    }


def _strings_in(cache):
    return sorted(path.name for path in cache.glob("glyph_strings-*"))


def test_counts_are_those_asked_for(parts):
    train, test = parts
    assert np.bincount(train.labels).tolist() == [3] * 20
    assert np.bincount(test.labels).tolist() == [4] * 10
    for part in parts:
        files = pathlib.Path(part.paths[0]).parent.iterdir()
        assert sorted(map(str, files)) == sorted(part.paths)


def test_no_string_comes_twice_and_each_has_three_letters(parts):
    for part in parts:
        assert len(set(part.class_names)) == len(part.class_names)
        assert {len(letters) for letters in _letters(part)} == {3}


def test_train_and_test_letters_are_those_of_the_glyphs(cache, parts):
    for part, letters in zip(parts, glyphs(cache), strict=True):
        known = {name.split("_")[0] for name in letters.class_names}
        assert set(itertools.chain(*_letters(part))) == known
    train, test = (set(itertools.chain(*_letters(part))) for part in parts)
    assert not train & test


def test_every_string_is_a_class_when_as_many_are_asked_for(cache):
    train, _ = glyph_strings(27, 1, 1, 1, cache)
    letters = sorted(set(itertools.chain(*_letters(train))))
    every = ["_".join(row) for row in itertools.product(letters, repeat=3)]
    assert sorted(train.class_names) == every


def test_labels_agree_with_the_file_names(parts):
    for part in parts:
        for path, label in zip(part.paths, part.labels, strict=True):
            name = pathlib.Path(path).name
            assert re.fullmatch(rf"{re.escape(part.class_names[label])}_\d\.png", name)


def test_images_are_gray_and_28_by_64(parts):
    for part in parts:
        for path in part.paths:
            with Image.open(path) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 28))


# The columns that one letter alone covers, by its place.
ALONE = (slice(0, 18), slice(28, 36), slice(46, 64))


def _found(image, place, drawings):
    """The (drawing, row, column) of which a letter's own columns are a copy."""
    columns = ALONE[place]
    first = columns.start - 18 * place
    width = columns.stop - columns.start
    return [
        (number, top, left)
        for number, drawing in enumerate(drawings)
        for top, left in itertools.product(range(5), range(5))
        if np.array_equal(
            drawing[top : top + 28, left + first : left + first + width],
            image[:, columns],
        )
    ]


def test_image_is_three_drawings_of_its_letters_the_lighter_pixel_on_top(cache, parts):
    for part, letters in zip(parts, glyphs(cache), strict=True):
        drawings = {}
        for path in letters.paths:
            code = pathlib.Path(path).parent.name.split("_")[0]
            drawings.setdefault(code, []).append(np.asarray(Image.open(path)))
        shown = {}
        for path, label in zip(part.paths[:12], part.labels[:12], strict=True):
            image = np.asarray(Image.open(path))
            layers = np.zeros((3, 28, 64), np.uint8)
            for place, code in enumerate(_letters(part)[label]):
                ((number, top, left),) = _found(image, place, drawings[code])
                tile = drawings[code][number][top : top + 28, left : left + 28]
                layers[place, :, 18 * place : 18 * place + 28] = tile
                shown.setdefault((label, place), []).append(number)
            assert np.array_equal(image, layers.max(axis=0))
        assert all(len(set(numbers)) == len(numbers) for numbers in shown.values())


def test_same_arguments_give_the_same_bytes(empty, parts):
    for part, same in zip(parts, glyph_strings(**FEW, cache_dir=empty), strict=True):
        assert part.class_names == same.class_names
        assert _pixels(part) == _pixels(same)


def test_other_seed_gives_other_strings(cache, parts):
    for part, other in zip(
        parts, glyph_strings(**FEW, cache_dir=cache, seed=1), strict=True
    ):
        assert part.class_names != other.class_names


def test_larger_set_begins_with_the_smaller(cache, parts):
    more = {"classes": 25, "images_per_class": 5, "test_classes": 12}
    larger = glyph_strings(**more, test_images_per_class=6, cache_dir=cache)
    for part, grown in zip(parts, larger, strict=True):
        assert grown.class_names[: len(part.class_names)] == part.class_names
        assert _pixels(part).items() < _pixels(grown).items()


@pytest.mark.slow
def test_raw_pixels_find_few_test_strings():
    _, test = glyph_strings(1, 1, 100)
    images = np.stack([np.asarray(Image.open(path)) for path in test.paths])
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
    scores = pixels @ pixels.T
    np.fill_diagonal(scores, -np.inf)
    recall = np.mean(test.labels[scores.argmax(axis=1)] == test.labels)
    assert 0.05 < recall < 0.5


def test_cached_copy_is_reused_without_drawing(cache, parts, monkeypatch):
    monkeypatch.setattr(module, "_compose", lambda *args: 1 / 0)
    before = {path: os.stat(path).st_mtime_ns for path in parts[0].paths}
    for part, same in zip(
        parts, glyph_strings(**FEW, cache_dir=str(cache)), strict=True
    ):
        assert np.array_equal(part.paths, same.paths)
        assert np.array_equal(part.labels, same.labels)
    assert before == {path: os.stat(path).st_mtime_ns for path in before}


def test_sets_of_other_arguments_are_kept_apart(empty):
    glyph_strings(3, 1, 2, 4, empty)
    for other in ((4, 1, 2, 4), (3, 2, 2, 4), (3, 1, 3, 4), (3, 1, 2, 5)):
        before = _strings_in(empty)
        glyph_strings(*other, empty)
        assert set(_strings_in(empty)) > set(before)
    before = _strings_in(empty)
    glyph_strings(3, 1, 2, 4, empty, seed=1)
    assert set(_strings_in(empty)) > set(before)


@pytest.mark.parametrize("where", [module, glyphs_module])
def test_stale_copy_is_not_reused(empty, where, monkeypatch):
    glyph_strings(3, 1, 2, 2, empty)
    before = _strings_in(empty)
    monkeypatch.setattr(where, "GENERATOR_VERSION", -1)
    letters = ["A", "B", "O", "ж", "ω", "Ω"]
    monkeypatch.setattr(glyphs_module, "_letter_classes", lambda: letters)
    glyph_strings(3, 1, 2, 2, empty)
    assert set(_strings_in(empty)) > set(before)


def test_interrupted_drawing_leaves_nothing(empty, monkeypatch):
    compose = module._compose
    composed = []

    def interrupt(row, corners):
        composed.append(row)
        if len(composed) == 70:  # 60 images to train on, then the test part's
            raise KeyboardInterrupt
        return compose(row, corners)

    monkeypatch.setattr(module, "_compose", interrupt)
    before = sorted(empty.iterdir())
    with pytest.raises(KeyboardInterrupt):
        glyph_strings(**FEW, cache_dir=empty)
    assert sorted(empty.iterdir()) == before
    monkeypatch.undo()
    train, test = glyph_strings(**FEW, cache_dir=empty)
    assert all(os.path.isfile(path) for path in (*train.paths, *test.paths))


@pytest.mark.parametrize(
    "name", ["classes", "images_per_class", "test_classes", "test_images_per_class"]
)
@pytest.mark.parametrize("count", [0, -1, 2.0, "2", None, True, 33])
def test_wrong_count_is_refused(empty, name, count):
    most = 27 if name.endswith("classes") else 32
    with pytest.raises(
        ValueError,
        match=f"^{name} must be an integer from 1 to {most}; got {count!r}",
    ):
        glyph_strings(**{**FEW, name: count}, cache_dir=empty)
    assert _strings_in(empty) == []


@pytest.mark.parametrize("seed", [-1, 0.0, None, True])
def test_wrong_seed_is_refused(empty, seed):
    with pytest.raises(ValueError, match=f"seed must be .* got {seed!r}"):
        glyph_strings(**FEW, cache_dir=empty, seed=seed)
    assert _strings_in(empty) == []


def test_numpy_integers_are_integers(cache, parts):
    counts = {name: np.int64(count) for name, count in FEW.items()}
    again = glyph_strings(**counts, cache_dir=cache, seed=np.int64(0))
    assert np.array_equal(again[0].paths, parts[0].paths)


def test_default_cache_dir_is_used(empty, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(empty))
    train, _ = glyph_strings(**FEW)
    assert empty in pathlib.Path(train.paths[0]).parents
