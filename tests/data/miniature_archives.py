"""The paper's four data sets in their official formats, of any size.

Each writer takes how many images each class has, and returns the counts of what it
wrote as the loader's `OFFICIAL_COUNTS` has them.
"""

import importlib
import io

import numpy as np
import scipy.io
from PIL import Image


def use_counts(monkeypatch, loader, counts):
    """Makes a loader take these counts for the official ones."""
    # The package's attribute of that name is the function.
    module = importlib.import_module(f"keras_dml.data.datasets.{loader}")
    monkeypatch.setattr(module, "OFFICIAL_COUNTS", counts)


def spread(images, classes):
    """Sizes of classes that make up so many images, none empty."""
    return [len(part) for part in np.array_split(np.arange(images), classes)]


def write_cub200(root, train=(3, 2), test=(2, 4, 1)):
    names = [
        f"{label:03}.Species_{label}" for label in range(1, 1 + len([*train, *test]))
    ]
    images = [
        f"{name}/{name[4:]}_{copy:04}_{label}{copy}.jpg"
        for label, (name, size) in enumerate(zip(names, [*train, *test], strict=True))
        for copy in range(size)
    ]
    labels = np.repeat(np.arange(1, len(names) + 1), [*train, *test])
    for name in names:
        (root / "images" / name).mkdir(parents=True)
    write_lines(root / "classes.txt", enumerate(names, 1))
    write_lines(root / "images.txt", enumerate(images, 1))
    write_lines(root / "image_class_labels.txt", enumerate(labels, 1))
    write_images([root / "images" / path for path in images], labels)
    return counts_of(train, test)


def write_cars196(root, train=(3, 2), test=(2, 4, 1)):
    """The layout with `cars_annos.mat` and `car_ims/`."""
    labels = np.repeat(np.arange(1, len([*train, *test]) + 1), [*train, *test])
    paths = [f"car_ims/{number:06}.jpg" for number in range(1, len(labels) + 1)]
    (root / "car_ims").mkdir(parents=True)
    write_annotations(
        root / "cars_annos.mat",
        relative_im_path=paths,
        **{"class": labels.tolist()},
        class_names=car_names(len([*train, *test])),
    )
    write_images([root / path for path in paths], labels)
    return counts_of(train, test)


def write_cars196_devkit(root, train=(3, 2), test=(2, 4, 1), labels_in="devkit"):
    """The layout with `devkit/`, `cars_train/` and `cars_test/`; classes in both."""
    labels = np.repeat(np.arange(1, len([*train, *test]) + 1), [*train, *test])
    labels = np.random.default_rng(0).permutation(labels)
    half = len(labels) // 2
    for folder in ("devkit", "cars_train", "cars_test"):
        (root / folder).mkdir(parents=True)
    write_annotations(
        root / "devkit" / "cars_meta.mat", class_names=car_names(len([*train, *test]))
    )
    for split, part, file in (
        ("train", labels[:half], "devkit/cars_train_annos.mat"),
        ("test", labels[half:], f"{labels_in}/cars_test_annos_withlabels.mat"),
    ):
        names = [f"{number:05}.jpg" for number in range(1, len(part) + 1)]
        write_annotations(root / file, **{"class": part.tolist()}, fname=names)
        write_images([root / f"cars_{split}" / name for name in names], part)
    names = [f"{number:05}.jpg" for number in range(1, len(labels) - half + 1)]
    write_annotations(root / "devkit" / "cars_test_annos.mat", fname=names)
    return counts_of(train, test)


def write_stanford_online_products(root, train=(3, 2), test=(2, 4, 1)):
    kinds = ("bicycle", "cabinet", "chair")
    image = 0
    label = 0
    for split, sizes in (("train", train), ("test", test)):
        rows = ["image_id class_id super_class_id path"]
        paths = []
        labels = []
        for size in sizes:
            kind = label % len(kinds)
            label += 1
            for copy in range(size):
                image += 1
                name = f"{kinds[kind]}_final/{111085122870 + label}_{copy}.JPG"
                rows.append(f"{image} {label} {kind + 1} {name}")
                paths.append(root / name)
                labels.append(label)
        for kind in kinds:
            (root / f"{kind}_final").mkdir(parents=True, exist_ok=True)
        (root / f"Ebay_{split}.txt").write_text("\n".join(rows) + "\n")
        write_images(paths, labels)
    return counts_of(train, test)


def write_in_shop(root, train=(3, 2), query=(1, 2, 2), gallery=(1, 1, 3)):
    """The layout with `Eval/` and `Img/`."""
    rows = []
    paths = []
    labels = []
    parts = [("train", 0, train), ("query", len(train), query)]
    for status, first, sizes in (*parts, ("gallery", len(train), gallery)):
        for label, size in enumerate(sizes, first + 1):
            item = f"id_{label:08}"
            for copy in range(size):
                sex = ("WOMEN/Dresses", "MEN/Jackets_Vests")[label % 2]
                name = f"img/{sex}/{item}/{copy:02}_{status}.jpg"
                rows.append(f"{name:70} {item} {status:10}")
                paths.append(root / "Img" / name)
                labels.append(label)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    (root / "Eval").mkdir()
    rows = [str(len(rows)), "image_name item_id evaluation_status", *rows]
    (root / "Eval" / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    write_images(paths, labels)
    counts = {"test classes": len(query)}
    for part, sizes in (("train", train), ("query", query), ("gallery", gallery)):
        counts[f"{part} classes"] = len(sizes)
        counts[f"{part} images"] = sum(sizes)
    return counts


def counts_of(train, test):
    return {
        "train classes": len(train),
        "train images": sum(train),
        "test classes": len(test),
        "test images": sum(test),
    }


def car_names(count):
    return [f"Make C/V Model {number} 20{number % 100:02}" for number in range(count)]


def write_lines(file, rows):
    file.write_text("".join(f"{number} {rest}\n" for number, rest in rows))


def change_line(file, number, line):
    """Replaces one line, counted from 1, and leaves the others to the byte."""
    lines = file.read_bytes().split(b"\n")
    lines[number - 1] = line.encode() if isinstance(line, str) else line
    file.write_bytes(b"\n".join(lines))


def write_annotations(file, class_names=None, **fields):
    """A .mat file as MATLAB writes it: a struct array and a cell array of names."""
    variables = {}
    if fields:
        (count,) = {len(values) for values in fields.values()}
        fields = {"bbox_x1": [39] * count, **fields}
        structs = np.zeros((1, count), [(name, object) for name in fields])
        for name, values in fields.items():
            for column, value in enumerate(values):
                structs[0, column][name] = value
        variables["annotations"] = structs
    if class_names is not None:
        cells = np.empty((1, len(class_names)), object)
        cells[0, :] = class_names
        variables["class_names"] = cells
    scipy.io.savemat(file, variables, do_compression=True)


def write_images(paths, labels):
    """JPEG files of one color a class."""
    encoded = {}
    for path, label in zip(paths, labels, strict=True):
        if label not in encoded:
            color = tuple(np.random.default_rng(label).integers(0, 256, 3).tolist())
            stream = io.BytesIO()
            Image.new("RGB", (12, 10), color).save(stream, "JPEG")
            encoded[label] = stream.getvalue()
        path.write_bytes(encoded[label])
