"""Glyphs: letters in the typefaces of matplotlib; needs no download.

python -m experiments.train --config=experiments/configs/glyphs.py
"""

import ml_collections

from experiments.configs.recipe import recipe


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {"loader": "glyphs"}

    config.image_size = 28
    config.resize = 32
    config.flip = False

    config.trunk = "conv4"
    config.dim = 64

    config.frozen_epochs = 0  # the trunk starts from nothing
    config.epochs = 12
    config.learning_rate = 0.02
    config.decay_at = (0.75,)
    config.evaluate_every = 2
    return config
