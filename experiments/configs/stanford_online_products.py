r"""Stanford Online Products: 11,318 products to train on, 11,316 to test on.

python -m experiments.train --config=experiments/configs/stanford_online_products.py \
    --data_dir=FOLDER

Published for ResNet-50 and 2,048 dimensions, in percent:

    float   R@1 79.55, R@10 91.54, R@100 96.66, R@1000 98.95
    binary  R@1 78.03

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
    config.data = {"loader": "stanford_online_products"}

    config.trunk = "resnet50"
    config.weights = "imagenet"
    config.dim = 2048

    config.learning_rate = 0.01
    config.classes = 15
    config.images_per_class = 5
    config.ks = (1, 10, 100, 1000)
    config.cache = "disk"  # 12 GB of pixels
    config.replacement = True
    return config
