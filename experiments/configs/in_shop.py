r"""In-Shop: 3,997 garments to train on; queries and gallery of 3,985 others.

python -m experiments.train --config=experiments/configs/in_shop.py \
    --data_dir=FOLDER

Published for ResNet-50 and 2,048 dimensions, in percent:

    float   R@1 89.35, R@10 97.81, R@20 98.61, R@30 98.87, R@40 99.05, R@50 99.13
    binary  R@1 88.76

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
    config.data = {"loader": "in_shop"}

    config.trunk = "resnet50"
    config.weights = "imagenet"
    config.dim = 2048

    config.learning_rate = 0.01
    config.classes = 15
    config.images_per_class = 5
    config.ks = (1, 10, 20, 30, 40, 50)
    config.nmi_starts = 0  # the paper gives no NMI for this set
    config.cache = "disk"  # 5 GB of pixels
    config.replacement = True
    return config
