"""The settings that every experiment shares, with the paper's values."""

import ml_collections


def recipe() -> ml_collections.ConfigDict:
    """The paper's recipe; `experiments/configs/` says what a data set changes.

    The values are those of the released code of
    [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649).
    """
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.image_size = 224
    config.resize = 256
    config.flip = True
    config.cache = "memory"  # or "disk", or nothing to decode in each epoch

    config.trunk = "resnet50"
    config.weights = ""  # "imagenet", "preset", a file, or nothing for random ones
    config.dim = 512
    config.layer_norm = True

    config.loss = "normalized_softmax"  # or another of experiments/losses.py, or tfa:…
    config.temperature = 0.05  # of the normalized softmax
    config.sampled_classes = 1.0  # the share of them that its training steps draw

    config.classes = 15
    config.images_per_class = 5
    config.replacement = False
    config.balanced = True  # False: images drawn without regard to their class

    config.frozen_epochs = 1  # of the new layers alone, before the others
    config.epochs = 30
    config.optimizer = "sgd"  # the paper's; or tfa:… of TensorFlow Addons
    config.learning_rate = 0.01  # times what experiments/losses.py has for the loss
    config.decay_at = (0.5,)  # shares of `epochs`, after which × 0.1
    config.momentum = 0.9
    config.l2 = 1e-4

    config.validation_classes = 0.0
    config.evaluate_every = 1
    config.ks = (1, 2, 4, 8)
    config.index = "annoy"  # or "hnsw", which needs faiss, or "exact"
    config.index_agreement = 0.99  # with exact search, on the largest of `ks`
    config.nmi_starts = 10  # of k-means, the best one kept; 0 leaves NMI out
    return config
