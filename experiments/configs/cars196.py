r"""Cars-196: 98 models of cars to train on and 98 others to test on.

python -m experiments.train --config=experiments/configs/cars196.py \
    --data_dir=FOLDER

Published for ResNet-50 and 2,048 dimensions, in percent:

    float   R@1 89.50, R@2 94.18, R@4 96.84, R@8 98.41
    binary  R@1 89.29

as the released code of [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649) reports
them. We have not reproduced these figures.

Other rows of the paper's table: --config.trunk=googlenet or bn_inception, and
--config.dim=64, 512 and so on.
"""

import ml_collections

from experiments.configs.recipe import recipe


def get_config() -> ml_collections.ConfigDict:
    """The settings, to be overridden with --config.name=value."""
    config = recipe()
    config.data = {"loader": "cars196"}

    config.trunk = "resnet50"
    config.weights = "imagenet"
    config.dim = 2048

    config.learning_rate = 0.01
    config.classes = 3
    config.images_per_class = 25
    config.replacement = True
    return config
