import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_dml.data import class_folders
from keras_dml.data import gallery_folder
from keras_dml.data import image_folder


def fill(folder, **classes):
    """Writes `folder/<class>/<file>` for each class=(files, ...)."""
    for name, files in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / name / file).write_bytes(b"pixels")
    return folder


def files_of(dataset):
    """{class name: file names}, in order."""
    files = {name: [] for name in dataset.class_names}
    for path, label in zip(dataset.paths, dataset.labels, strict=True):
        assert pathlib.Path(path).parent.name == dataset.class_names[label]
        files[dataset.class_names[label]].append(os.path.basename(path))
    return files


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "train", crow=("b.jpg", "a.jpg"), ant=("1.png",))
    fill(tmp_path / "test", bee=("2.png", "10.png"))
    return tmp_path


@pytest.fixture
def ten_classes(tmp_path):
    return fill(tmp_path, **{f"c{i}": ("a.png", "b.png") for i in range(10)})


def test_train_and_test_folders_are_read_in_order_of_names(root):
    train, test = image_folder(str(root))
    assert list(files_of(train).items()) == [
        ("ant", ["1.png"]),
        ("crow", ["a.jpg", "b.jpg"]),
    ]
    assert files_of(test) == {"bee": ["10.png", "2.png"]}
    assert train.is_query is None
    assert all(os.path.isfile(path) for path in (*train.paths, *test.paths))


def test_other_classes_at_the_root_are_ignored_with_train_and_test(root):
    fill(root, notes=("a.png",))
    train, test = image_folder(root)
    assert {*train.class_names, *test.class_names} == {"ant", "crow", "bee"}


def test_class_folders_are_split_by_class(ten_classes):
    train, test = image_folder(ten_classes, test_fraction=0.3)
    assert (len(train.class_names), len(test.class_names)) == (7, 3)
    assert not set(train.class_names) & set(test.class_names)
    files = {**files_of(train), **files_of(test)}
    assert files == {f"c{i}": ["a.png", "b.png"] for i in range(10)}


def test_split_is_a_function_of_the_seed(ten_classes):
    tests = [image_folder(ten_classes, 0.5, seed)[1].class_names for seed in range(8)]
    assert image_folder(ten_classes, 0.5, 5)[1].class_names == tests[5]
    assert len(set(tests)) > 4


def test_suffixes_are_read_in_any_case_and_other_files_are_ignored(tmp_path):
    images = ("a.JPG", "b.Jpeg", "c.PNG", "d.bmp", "e.GIF", "f.webp")
    others = ("Thumbs.db", "notes.txt", "png", "x.png.part", ".hidden.png", "y.tif")
    fill(tmp_path / "train", a=(*others, *images))
    (tmp_path / "train" / "README.md").write_text("about")
    (tmp_path / "train" / ".git").mkdir()
    fill(tmp_path / "test", b=("a.png",))
    train, _ = image_folder(tmp_path)
    assert files_of(train) == {"a": list(images)}


def test_names_may_have_spaces_and_any_letters(tmp_path):
    names = {"my cat": ("one image.png",), "Grüße": ("日本 ü.png",), "猫": ("é.png",)}
    fill(tmp_path / "train", **names)
    fill(tmp_path / "test", **{"ж Ω": ("a.png",)})
    for path in tmp_path.glob("*/*/*"):
        Image.new("RGB", (5, 5), (1, 2, 3)).save(path)
    train, test = image_folder(tmp_path)
    assert files_of(train) == {name: list(files) for name, files in names.items()}
    assert test.class_names == ("ж Ω",)
    (images,) = train.images(4)
    assert (images.numpy() == np.array((1, 2, 3))).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split_is_named_with_what_to_do(root, split):
    os.rename(root / split, root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=f"{root / split}.* test_fraction"):
        image_folder(root)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_missing_folder_is_named(tmp_path, fraction):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nowhere")):
        image_folder(tmp_path / "nowhere", fraction)


def test_class_in_both_splits_is_named(root):
    fill(root / "test", ant=("3.png",), crow=("3.png",))
    with pytest.raises(ValueError, match=r"class 'ant' is in both .* \(2 such\)"):
        image_folder(root)


def test_empty_file_is_named(root):
    (root / "test" / "bee" / "2.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bee.2\.png' is an empty file"):
        image_folder(root)


@pytest.mark.parametrize("name", [b"Gr\xfc\xdfe/1.png", b"ant/\xfc.png"])
def test_path_that_is_not_utf8_is_named(root, name):
    file = root / "train" / os.fsdecode(name)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"pixels")
    with pytest.raises(ValueError, match=r"udcfc.*is not UTF-8.* rename the file"):
        image_folder(root)


@pytest.mark.parametrize("files", [(), ("notes.txt", ".hidden.png")])
def test_class_without_images_is_named(root, files):
    fill(root / "train", empty=files)
    with pytest.raises(ValueError, match=r"train.empty' has no images"):
        image_folder(root)


def test_folder_without_classes_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    fill(tmp_path / "test", a=("a.png",))
    with pytest.raises(ValueError, match="train' has no class folders"):
        image_folder(tmp_path)


def test_folder_within_a_class_is_named(root):
    (root / "train" / "ant" / "more").mkdir()
    with pytest.raises(ValueError, match=r"ant.more' is a folder inside a class"):
        image_folder(root)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.05])
def test_fraction_out_of_range_is_refused(ten_classes, fraction):
    with pytest.raises(ValueError, match=f"fraction.*{fraction}"):
        image_folder(ten_classes, fraction)


def test_class_folders_are_one_data_set_in_order_of_names(root):
    dataset = class_folders(root / "train")
    assert files_of(dataset) == {"ant": ["1.png"], "crow": ["a.jpg", "b.jpg"]}
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.is_query is None


def test_class_folders_of_a_missing_folder_name_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere'"):
        class_folders(tmp_path / "nowhere")


def test_broken_link_is_named(root):
    (root / "train" / "ant" / "2.png").symlink_to(root / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"2\.png' is a broken link; repair"):
        class_folders(root / "train")


def test_class_folder_that_is_a_broken_link_is_named(root):
    (root / "train" / "bee").symlink_to(root / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"train/bee' is a broken link; repair"):
        class_folders(root / "train", check_files=False)


def test_circle_of_links_is_named(root):
    link = root / "train" / "ant" / "2.png"
    link.symlink_to(link)
    with pytest.raises(FileNotFoundError, match=r"2\.png' is a broken link; repair"):
        class_folders(root / "train")
    link.unlink()
    (root / "train" / "ant" / "up").symlink_to(root / "train")
    with pytest.raises(ValueError, match="is a folder inside a class folder"):
        class_folders(root / "train")


def test_unchecked_files_keep_their_label(root):
    (root / "train" / "ant" / "2.png").symlink_to(root / "nowhere.png")
    (root / "train" / "crow" / "0.png").touch()
    dataset = class_folders(root / "train", check_files=False)
    assert files_of(dataset) == {
        "ant": ["1.png", "2.png"],
        "crow": ["0.png", "a.jpg", "b.jpg"],
    }


def test_gallery_has_class_folders_and_images_without_a_class(tmp_path):
    for name in ("b/2.png", "b/1.jpg", "a/3.png", "9.PNG", "8.gif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("something")
    found = gallery_folder(tmp_path)
    assert found.class_names == ("", "a", "b")
    assert [path.removeprefix(f"{tmp_path}/") for path in found.paths] == [
        *("8.gif", "9.PNG", "a/3.png", "b/1.jpg", "b/2.png")
    ]
    assert found.labels.tolist() == [0, 0, 1, 2, 2]
    assert gallery_folder(tmp_path / "b").class_names == ("",)
    in_classes = gallery_folder(tmp_path).subset([False, True, True])
    assert class_folders(tmp_path).paths.tolist() == in_classes.paths.tolist()


def test_gallery_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere'"):
        gallery_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("something")
    with pytest.raises(ValueError, match=r"has no images .*, and no class folders"):
        gallery_folder(tmp_path)
    (tmp_path / "1.png").touch()
    with pytest.raises(ValueError, match=r"1\.png' is an empty file"):
        gallery_folder(tmp_path)
    assert len(gallery_folder(tmp_path, check_files=False)) == 1
