r"""Your own images, in one folder a class, from a pretrained trunk.

FOLDER/train/<class>/* and FOLDER/test/<class>/*:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER

FOLDER/<class>/*, split by class:

python -m experiments.train --config=experiments/configs/image_folder.py \
    --data_dir=FOLDER --config.data.test_fraction=0.5

Nothing starts at random: the trunk has ImageNet weights, its pooled features are the
embedding, and class weights begin as the mean embedding of each class. So training
begins with all that the trunk knows; batch normalization rests and AdamW bounds the
steps, so that it stays. A tenth of the training classes chooses among the epochs, and
the weights as they came are one of the choices. experiments/README.md shows what each
of these is worth; `image_folder_paper.py` has the paper's recipe.

A batch has images of 15 classes, so that many must be trained on, beside those that
choose, or --config.classes says how many there are.
"""

import ml_collections

from experiments.configs import image_folder_paper


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = image_folder_paper.get_config()
    config.trunk = "efficientnet_lite0"  # its weights come with pip
    config.dim = 1280  # the trunk's own, so that there is no linear map

    config.batch_norm = "frozen"
    config.class_weights = "means"
    config.validation_classes = 0.1

    config.frozen_epochs = 0  # nothing is new
    config.epochs = 10
    config.optimizer = "adamw"
    config.learning_rate = 3e-4
    config.schedule = "cosine"
    config.warmup_epochs = 1.0
    return config
