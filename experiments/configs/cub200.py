r"""CUB-200-2011: birds, 100 species to train on and 100 others to test on.

python -m experiments.train --config=experiments/configs/cub200.py \
    --data_dir=FOLDER

Published for ResNet-50 and 2,048 dimensions, in percent:

    float   R@1 65.36, R@2 76.76, R@4 85.42, R@8 91.51
    binary  R@1 63.67

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
    config.data = {"loader": "cub200"}

    config.trunk = "resnet50"
    config.weights = "imagenet"
    config.dim = 2048

    config.learning_rate = 0.001
    config.classes = 3
    config.images_per_class = 25
    config.replacement = True
    return config
