"""Glyph strings: 50,000 classes of three letters each; needs no download.

python -m experiments.train --config=experiments/configs/glyph_strings.py

Raw pixels, resized and cropped likewise, have a Recall@1 of 5.3 % on the test classes.
These settings have not been trained to the end: with two images a class a network from
random weights needs more views than a few epochs give it. Trained on 500 classes of 32
images, with four images a class in a batch of 100, it came to 19.0 % in three epochs.
"""

from experiments.recipe import recipe


def get_config():
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

    config.warm_up_epochs = 0  # the trunk starts from nothing
    config.epochs = 4
    config.learning_rate = 0.02
    config.decay_at = (0.75,)
    config.nmi_starts = 0  # k-means over a thousand test classes takes long
    return config
