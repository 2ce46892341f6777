import os
import pathlib
import shutil

import numpy as np
import pytest

from keras_dml.data.datasets import cars196
from tests.data.miniature_archives import car_names
from tests.data.miniature_archives import spread
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_annotations
from tests.data.miniature_archives import write_cars196
from tests.data.miniature_archives import write_cars196_devkit

LABELS = "cars_test_annos_withlabels.mat"


@pytest.fixture
def flat(tmp_path, monkeypatch):
    """Classes of 3 and 2 images to train on; of 2, 4 and 1 to test on."""
    use_counts(monkeypatch, "cars196", write_cars196(tmp_path / "cars"))
    return tmp_path / "cars"


@pytest.fixture
def devkit(tmp_path, monkeypatch):
    """The same in the other layout: annotations 1-6 and 1-6."""
    use_counts(monkeypatch, "cars196", write_cars196_devkit(tmp_path / "stanford_cars"))
    return tmp_path / "stanford_cars"


def contents(dataset):
    """The images of each class, by its name, in any order."""
    found = {}
    for path, label in zip(dataset.paths, dataset.labels, strict=True):
        name = dataset.class_names[label]
        found.setdefault(name, []).append(pathlib.Path(path).read_bytes())
    return found


def test_first_classes_are_trained_on_and_the_others_tested_on(flat):
    train, test = cars196(flat)
    names = tuple(car_names(5))
    assert (train.class_names, test.class_names) == (names[:2], names[2:])
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert train.paths[0] == f"{flat}/car_ims/000001.jpg"
    assert test.paths[-1] == f"{flat}/car_ims/000012.jpg"
    assert test.is_query is None


def test_both_layouts_hold_the_same_classes(flat, devkit):
    for first, second in zip(cars196(flat), cars196(devkit), strict=True):
        assert contents(first) == contents(second)


def test_both_halves_of_the_devkit_are_read(devkit):
    train, test = cars196(devkit)
    paths = {*train.paths, *test.paths}
    assert paths == {
        f"{devkit}/cars_{split}/{number:05}.jpg"
        for split in ("train", "test")
        for number in range(1, 7)
    }


def test_test_labels_may_lie_beside_the_devkit(devkit):
    before = cars196(devkit)
    os.rename(devkit / "devkit" / LABELS, devkit / LABELS)
    for first, second in zip(before, cars196(devkit), strict=True):
        assert first.paths.tolist() == second.paths.tolist()
        assert first.labels.tolist() == second.labels.tolist()


def test_folder_it_was_extracted_in_will_do(devkit):
    train, _ = cars196(str(devkit.parent))
    assert train.paths.tolist() == cars196(devkit)[0].paths.tolist()


def test_images_may_lie_a_folder_deeper_as_on_kaggle(devkit):
    before = [contents(dataset) for dataset in cars196(devkit)]
    for name in ("cars_train", "cars_test"):
        os.rename(devkit / name, devkit / "kept")
        (devkit / name).mkdir()
        os.rename(devkit / "kept", devkit / name / name)
    found = cars196(devkit)
    assert [contents(dataset) for dataset in found] == before
    assert f"{devkit}/cars_train/cars_train/00001.jpg" in {
        path for dataset in found for path in dataset.paths
    }


def test_devkit_without_the_test_labels_is_explained(devkit):
    os.remove(devkit / "devkit" / LABELS)
    with pytest.raises(
        FileNotFoundError,
        match=rf"no {LABELS} in '{devkit}/devkit' or beside it.*without the classes",
    ):
        cars196(devkit)


def test_test_annotations_under_the_labels_name_are_refused(devkit):
    os.rename(devkit / "devkit" / "cars_test_annos.mat", devkit / "devkit" / LABELS)
    with pytest.raises(
        ValueError, match=rf"{LABELS}' has no annotations with 'fname' a"
    ):
        cars196(devkit)


@pytest.mark.parametrize(
    ("path", "label", "message"),
    [
        ("car_ims/1.jpg", 0, r"class must be a whole number in 1\.\.5; got 0"),
        ("car_ims/1.jpg", 6, r"class must be a whole number in 1\.\.5; got 6"),
        ("car_ims/1.jpg", -1, "class must be a whole number"),
        ("car_ims/1.jpg", 1.5, "class must be a whole number"),
        ("car_ims/1.jpg", float("nan"), "class must be a whole number"),
        ("car_ims/1.jpg", "two", "class must be a whole number"),
        ("car_ims/1.jpg", [1, 2], "class must be a whole number"),
        ("car_ims/1.jpg", np.zeros((0, 0)), "class must be a whole number"),
        (
            "car_ims/000001.jpg",
            2,
            "image 'car_ims/000001.jpg' appears twice, first as 1",
        ),
        ("car_ims/./000001.jpg", 2, "image .* appears twice, first as 1"),
        (
            "../../x.jpg",
            2,
            "image must be a path inside the data set; got '../../x.jpg'",
        ),
        ("/etc/x.jpg", 2, "image must be a path inside the data set; got '/etc/x.jpg'"),
        (7, 2, "image must be a file name; got 7"),
    ],
)
def test_hostile_annotation_is_named(flat, path, label, message):
    paths = [f"car_ims/{number:06}.jpg" for number in range(1, 13)]
    labels = [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5]
    paths[3], labels[3] = path, label
    write_annotations(
        flat / "cars_annos.mat",
        relative_im_path=paths,
        **{"class": labels},
        class_names=car_names(5),
    )
    with pytest.raises(
        ValueError, match=rf"cars_annos\.mat', annotation 4 of 12: {message}"
    ):
        cars196(flat)


def test_whole_numbers_saved_as_doubles_are_classes_too(flat):
    before = cars196(flat)[1].labels.tolist()
    labels = [float(label) for label in [1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5]]
    write_annotations(
        flat / "cars_annos.mat",
        relative_im_path=[f"car_ims/{number:06}.jpg" for number in range(1, 13)],
        **{"class": labels},
        class_names=car_names(5),
    )
    assert cars196(flat)[1].labels.tolist() == before


@pytest.mark.parametrize("length", [0, 10, 128, 200, 400])
def test_truncated_file_is_named(flat, length):
    file = flat / "cars_annos.mat"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(
        ValueError, match=r"cars_annos\.mat' (is not a complete .mat|has no)"
    ):
        cars196(flat)


def test_web_page_saved_as_mat_is_named(flat):
    (flat / "cars_annos.mat").write_text("<html>404 Not Found</html>\n" * 40)
    with pytest.raises(
        ValueError, match=r"cars_annos\.mat' is not a complete \.mat file"
    ):
        cars196(flat)


@pytest.mark.parametrize("names", [car_names(4), car_names(6), [1, 2, 3, 4, 5]])
def test_wrong_class_names_are_named(devkit, names):
    write_annotations(devkit / "devkit" / "cars_meta.mat", class_names=names)
    with pytest.raises(
        ValueError, match=rf"cars_meta\.mat' has {len(names)} class name"
    ):
        cars196(devkit)


def test_missing_class_names_are_named(devkit):
    os.remove(devkit / "devkit" / "cars_meta.mat")
    with pytest.raises(FileNotFoundError, match=r"no file .*cars_meta\.mat'"):
        cars196(devkit)


def test_file_without_annotations_is_named(devkit):
    write_annotations(devkit / "devkit" / "cars_train_annos.mat", class_names=["a"])
    with pytest.raises(
        ValueError, match=r"cars_train_annos\.mat' has no 'annotations'"
    ):
        cars196(devkit)


def test_image_folder_of_the_other_layout_is_explained(flat):
    os.rename(flat / "car_ims", flat / "cars_train")
    with pytest.raises(
        FileNotFoundError, match=r"^12 of 12 images .*goes with its folder car_ims/"
    ):
        cars196(flat)


def test_half_extracted_images_are_named(devkit):
    shutil.rmtree(devkit / "cars_test")
    with pytest.raises(FileNotFoundError, match=r"^6 of 12 .*cars_test\.tgz again"):
        cars196(devkit)


def test_folder_without_it_says_where_to_look(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"no devkit/cars_train_annos\.mat or cars_annos\.mat in .*ai\.stanford",
    ):
        cars196(tmp_path)


@pytest.mark.slow
def test_archive_of_the_official_size_passes(tmp_path):
    write_cars196_devkit(tmp_path, spread(8054, 98), spread(8131, 98))
    train, test = cars196(tmp_path)
    assert (len(train.class_names), len(train)) == (98, 8054)
    assert (len(test.class_names), len(test)) == (98, 8131)


def test_archive_of_another_size_is_refused(tmp_path):
    write_cars196(tmp_path, [1] * 98, [1] * 98)
    with pytest.raises(
        ValueError,
        match=r"cars_annos\.mat' is incomplete, or of another data set; train images: "
        r"98 found, 8,054 expected; test images: 98 found, 8,131 expected\. Extract",
    ):
        cars196(tmp_path)
