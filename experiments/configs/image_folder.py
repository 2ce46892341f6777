r"""Your own images, in one folder a class.

FOLDER/train/<class>/* and FOLDER/test/<class>/*:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER

FOLDER/<class>/*, split by class:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER --config.data.test_fraction=0.5

The trunk starts from ImageNet weights, which are downloaded once; --config.weights=
starts from random ones. A batch has images of 15 classes, so that many must be trained
on, or --config.classes says how many there are.
"""

import ml_collections

from experiments.configs.recipe import recipe


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {
        "loader": "image_folder",
        "test_fraction": ml_collections.config_dict.placeholder(float),
    }
    config.weights = "imagenet"
    return config
