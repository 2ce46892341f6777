r"""Your own images, in one folder a class.

FOLDER/train/<class>/* and FOLDER/test/<class>/*:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER

FOLDER/<class>/*, split by class:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER --config.data.test_fraction=0.5
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
