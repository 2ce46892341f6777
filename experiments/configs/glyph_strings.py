r"""Glyph strings: 50,000 classes of three letters each; needs no download.

python -m experiments.train --config=experiments/configs/glyph_strings.py \
    --config.weights=saved_models/strings_500/trunk.weights.h5

The trunk comes from 500 classes of 32 images, as from random weights two images of a
class are too few to learn from:

python -m experiments.train --config=experiments/configs/glyph_strings.py \
    --output_dir=saved_models/strings_500 --config.data.classes=500 \
    --config.data.images_per_class=32 --config.sampled_classes=1.0 \
    --config.classes=25 --config.images_per_class=4 --config.frozen_epochs=0

experiments/README.md has the figures.
"""

import ml_collections

from experiments.configs.recipe import recipe


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {"loader": "glyph_strings", "classes": 50_000, "images_per_class": 2}

    config.image_size = 28
    config.resize = 32
    config.flip = False

    config.trunk = "conv4"
    config.dim = 64
    config.sampled_classes = 0.1

    config.classes = 50
    config.images_per_class = 2  # all that a class has

    config.frozen_epochs = 1
    config.epochs = 6
    config.learning_rate = 0.05
    config.decay_at = (0.75,)
    config.nmi_starts = 0  # k-means over a thousand test classes takes long
    return config
