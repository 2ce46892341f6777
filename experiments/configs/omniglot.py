"""Omniglot, the small split: 136 characters to train on, 106 to test on.

python -m experiments.train --config=experiments/configs/omniglot.py \
    --data_dir=FOLDER_WITH_THE_ZIP_FILES
"""

from experiments.recipe import recipe


def get_config():
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {
        "loader": "omniglot",
        "train_zip": "images_background_small1.zip",
        "test_zip": "images_background_small2.zip",
    }

    config.image_size = 28
    config.resize = 32
    config.flip = False

    config.trunk = "conv4"
    config.dim = 64

    config.epochs = 60
    config.learning_rate = 0.1
    config.decay_at = (0.75,)
    config.evaluate_every = 5
    return config
