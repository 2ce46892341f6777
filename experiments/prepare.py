"""Checks a copy of one of the paper's data sets before hours are spent on it.

python -m experiments.prepare --dataset=cub200 --data_dir=FOLDER

FOLDER is the official archive as extracted, or the folder that it was extracted in.
Its lists are read line by line, their counts compared with the official ones and
printed, every image looked for and decoded. Where something is missing, the program
says what, and where the archives are to be had. The exit code is 0 if all is well.
"""

import shlex

import ml_collections
import numpy as np
from absl import flags

from experiments._lib import program
from experiments._lib.build import PAPER_LOADERS
from experiments._lib.build import load_data
from keras_dml import data

_DATASET = flags.DEFINE_enum("dataset", None, list(PAPER_LOADERS), "Which data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds it.")
_IMAGES = flags.DEFINE_boolean(
    "images", True, "Decode every image; otherwise they are only looked for."
)
flags.mark_flags_as_required(["dataset", "data_dir"])


def main(argv):
    """Folder → data set → counts → images."""
    del argv
    config = ml_collections.ConfigDict({"data": {"loader": _DATASET.value}})
    train, test = load_data(config, _DATA_DIR.value)
    print(f"{_DATASET.value:24} classes   images")
    for part, labels in _parts(train, test).items():
        print(f"{part:24} {len(np.unique(labels)):7,}  {len(labels):7,}")
    if _IMAGES.value:
        data.check_images(train, test)
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
