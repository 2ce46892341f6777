r"""Your own images, in one folder a class, by the paper's recipe.

It is `image_folder.py` with the paper's settings: ResNet-50, SGD, batch normalization
in training mode, random class weights. Choose it to compare with published figures, or
to train from random weights:

python -m experiments.train --config=experiments/configs/image_folder_paper.py \
    --data_dir=FOLDER --config.weights= --config.frozen_epochs=0

ImageNet weights are downloaded once. A batch has images of 15 classes, so that many
must be trained on, or --config.classes says how many there are.
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
