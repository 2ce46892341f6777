"""Checks your copy of one of the paper's data sets before you train on it.

python -m experiments.prepare --dataset=cub200 --data_dir=FOLDER

FOLDER is the extracted official archive, or the folder that it was extracted in. The
program reads its lists, compares the numbers of classes and images with the official
ones and prints them, and decodes every image. If something is missing, it says what,
and where to download the archives. The exit code is 0 if all is well.
"""

import shlex

import ml_collections
import numpy as np
from absl import flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.build import PAPER_LOADERS
from experiments._lib.build import load_data

_DATASET = flags.DEFINE_enum("dataset", None, list(PAPER_LOADERS), "Which data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_IMAGES = flags.DEFINE_boolean(
    "images", True, "Decode every image; without, only check that its file exists."
)
flags.mark_flags_as_required(["dataset", "data_dir"])


def main(argv: list[str]) -> None:
    """Folder → data set → counts → images."""
    del argv
    config = ml_collections.ConfigDict({"data": {"loader": _DATASET.value}})
    train, test = load_data(config, _DATA_DIR.value)
    print(f"{_DATASET.value:24} classes   images")
    for part, labels in _parts(train, test).items():
        print(f"{part:24} {len(np.unique(labels)):7,}  {len(labels):7,}")
    if _IMAGES.value and not find_bad_images(train, test):
        print("Every image can be read.")
    print(
        "Train on it with: python -m experiments.train --config=experiments/configs/"
        f"{_DATASET.value}.py --data_dir={shlex.quote(_DATA_DIR.value)}"
    )


def _parts(train, test):
    if test.is_query is None:
        return {"train": train.labels, "test": test.labels}
    return {
        "train": train.labels,
        "query": test.labels[test.is_query],
        "gallery": test.labels[~test.is_query],
    }


if __name__ == "__main__":
    program.run(main)
