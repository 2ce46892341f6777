"""Cars-196: photographs of 196 models of cars."""

import os

import numpy as np

from keras_dml._ops import import_extra
from keras_dml.data.datasets._archive import find_metadata
from keras_dml.data.datasets._archive import parse_path
from keras_dml.data.datasets._archive import split_at_class
from keras_dml.data.image_dataset import ImageDataset

OFFICIAL_COUNTS = {
    "train classes": 98,
    "train images": 8_054,
    "test classes": 98,
    "test images": 8_131,
}

_DOWNLOAD = (
    "The page https://ai.stanford.edu/~jkrause/cars/car_dataset.html had the archives "
    "and is gone; mirrors have car_devkit.tgz, cars_train.tgz, cars_test.tgz and "
    "cars_test_annos_withlabels.mat, or car_ims.tgz and cars_annos.mat. Extract them "
    "side by side."
)
_LABELS = "cars_test_annos_withlabels.mat"


def cars196(root: str | os.PathLike) -> tuple[ImageDataset, ImageDataset]:
    """Cars-196 from its official archives, extracted; each model of a year is a class.

    Classes 1 to 98 are trained on (8,054 images) and 99 to 196 tested on (8,131), as
    is usual in metric learning. The archives' own split, which has every class in both
    parts, is not used. The annotations are .mat files, which SciPy reads:
    `pip install "keras_dml[datasets]"`.

    Args:
        root: the folder with `devkit/cars_train_annos.mat`, `devkit/cars_meta.mat`,
            `cars_test_annos_withlabels.mat` (in `devkit/` or beside it), `cars_train/`
            and `cars_test/` (or, as on Kaggle, `cars_train/cars_train/` and
            `cars_test/cars_test/`); or, the other form in which the same images were
            given out, with `cars_annos.mat` and `car_ims/`. Or the folder that holds
            it, if it is called `stanford_cars`.

    Returns:
        (train, test); class names are like "AM General Hummer SUV 2000".

    Raises:
        FileNotFoundError: if a file is missing.
        ImportError: if SciPy is not installed.
        ValueError: if a file can't be read, an annotation in it is wrong, or the counts
            of classes and images are not the official ones.

    Example:
        >>> train, test = cars196("stanford_cars")  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (8054, 8131)

    Reference:
        Krause et al., "3D Object Representations for Fine-Grained Categorization",
        2013; split as in [Song et al., 2016](https://arxiv.org/abs/1511.06452).
    """
    devkit = "devkit/cars_train_annos.mat"
    file = find_metadata(root, "stanford_cars", [devkit, "cars_annos.mat"], _DOWNLOAD)
    if file.name == "cars_annos.mat":
        folder, names_file = file.parent, file
        annotations = _annotations(file, "relative_im_path", folder)
        remedy = (
            "Extract car_ims.tgz again, all of it: cars_annos.mat goes with its folder "
            "car_ims/. For cars_train/ and cars_test/ get car_devkit.tgz and "
            f"{_LABELS}."
        )
    else:
        folder, names_file = file.parent.parent, file.parent / "cars_meta.mat"
        annotations = _annotations(file, "fname", _images(folder, "cars_train"))
        annotations += _annotations(
            _test_labels(file.parent), "fname", _images(folder, "cars_test")
        )
        remedy = (
            "Extract cars_train.tgz and cars_test.tgz again, all of both, so that the "
            "images lie in cars_train/ and cars_test/."
        )
    paths, class_ids = zip(*annotations, strict=True)
    return split_at_class(
        file, paths, class_ids, _class_names(names_file), OFFICIAL_COUNTS, remedy
    )


def _images(folder, name):
    """The folder of images, which Kaggle's copies have inside another of its name."""
    nested = folder / name / name
    return nested if nested.is_dir() else folder / name


def _test_labels(devkit):
    for folder in (devkit, devkit.parent):
        if (folder / _LABELS).is_file():
            return folder / _LABELS
    raise FileNotFoundError(
        f"no {_LABELS} in {str(devkit)!r} or beside it. The devkit came without the "
        "classes of the test images (its cars_test_annos.mat has none); they are in "
        "this separate file, which mirrors of the data set have too."
    )


def _annotations(file, path_field, folder):
    """[(image file, class id)] of a file of annotations."""
    annotations = np.atleast_1d(_variable(file, "annotations"))
    fields = annotations.dtype.names or ()
    if path_field not in fields or "class" not in fields or not annotations.size:
        raise ValueError(
            f"{str(file)!r} has no annotations with {path_field!r} and 'class', so it "
            f"is not the official file; get {file.name} again."
        )
    first_of = {}
    found = []
    for number, annotation in enumerate(annotations, 1):
        try:
            path = _path(annotation[path_field])
            class_id = _class_id(annotation["class"])
            first = first_of.setdefault(path, number)
            if first != number:
                raise ValueError(f"image {path!r} appears twice, first as {first}")
        except ValueError as error:
            raise ValueError(
                f"{str(file)!r}, annotation {number} of {len(annotations)}: {error}."
            ) from None
        found.append((f"{folder}/{path}", class_id))
    return found


def _path(value):
    if not isinstance(value, str):
        raise ValueError(f"image must be a file name; got {value!r}")
    try:
        return parse_path(value)
    except ValueError as error:
        raise ValueError(f"image {error}") from None


def _class_id(value):
    last = _number_of_classes()
    if not isinstance(value, (int, float)) or value not in range(1, last + 1):
        raise ValueError(f"class must be a whole number in 1..{last}; got {value!r}")
    return int(value)


def _class_names(file):
    """{class id: name}, from the file that has them."""
    names = np.atleast_1d(_variable(file, "class_names")).tolist()
    if len(names) != _number_of_classes() or not all(
        isinstance(name, str) for name in names
    ):
        raise ValueError(
            f"{str(file)!r} has {len(names)} class names instead of "
            f"{_number_of_classes()}; get {file.name} again."
        )
    return dict(enumerate(names, 1))


def _number_of_classes():
    return OFFICIAL_COUNTS["train classes"] + OFFICIAL_COUNTS["test classes"]


def _variable(file, name):
    if not file.is_file():
        raise FileNotFoundError(f"no file {str(file)!r}. {_DOWNLOAD}")
    scipy_io = import_extra("scipy.io", "cars196", "datasets")
    try:
        variables = scipy_io.loadmat(file, squeeze_me=True, variable_names=[name])
    except Exception as error:  # SciPy, zlib and NumPy each raise their own.
        raise ValueError(
            f"{str(file)!r} is not a complete .mat file ({error}); get it again."
        ) from error
    if name not in variables:
        raise ValueError(
            f"{str(file)!r} has no {name!r}, so it is not the official file; get "
            f"{file.name} again."
        )
    return variables[name]
