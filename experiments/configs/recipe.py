"""The settings that all configs start from, with the paper's values."""

import ml_collections


def recipe() -> ml_collections.ConfigDict:
    """The paper's recipe; the config of a data set changes some of its settings.

    The values are those of the released code of
    [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649).
    """
    config = ml_collections.ConfigDict()
    config.seed = 0

    config.image_size = 224
    config.resize = 256
    config.flip = True
    config.augment = ""  # Keras's layers, such as "RandomRotation(0.05), RandAugment"
    config.cache = "memory"  # or "disk", or "" to decode the images in each epoch

    config.trunk = "resnet50"
    config.weights = ""  # "imagenet", "preset", a file, or "" for random weights
    config.dim = 512
    config.layer_norm = True
    config.pooling = "avg"  # the paper's; or "max" or "gem", of feature maps

    config.batch_norm = "train"  # the paper's; "frozen" keeps the trunk's statistics
    config.class_weights = "random"  # the paper's; "means" begins at class means

    config.loss = "normalized_softmax"  # or another of _lib/losses.py, or "tfa:…"
    config.temperature = 0.05  # of the normalized softmax
    config.sampled_classes = 1.0  # the share of classes in a step's softmax
    config.memory_size = 0  # past images that a loss on pairs compares with

    config.classes = 15
    config.images_per_class = 5
    config.replacement = False
    config.balanced = True  # False: images drawn without regard to their class

    config.frozen_epochs = 1  # in which the trunk is frozen, before `epochs`
    config.epochs = 30
    config.optimizer = "sgd"  # the paper's; Keras's "adamw", …; "tfa:…" of Addons
    config.learning_rate = 0.01  # with "sgd" × the loss's rate_factor in _lib/losses.py
    config.schedule = "step"  # the paper's; or "cosine" to 0, or "constant"
    config.decay_at = (0.5,)  # shares of `epochs`, after which "step" has × 0.1
    config.warmup_epochs = 0.0  # at the start of "cosine", frozen epochs included
    config.layer_decay = 1.0  # of the learning rate, a block of the trunk
    config.momentum = 0.9  # of "sgd"
    config.l2 = 1e-4  # weight decay
    config.precision = "float32"  # or "mixed_bfloat16" or "mixed_float16"
    config.jit_compile = False  # with XLA, which is not deterministic
    config.deterministic = True  # the same weights bit for bit, at the cost of speed

    config.validation_classes = 0.0  # share of the training classes to choose weights
    config.evaluate_every = 1  # epochs
    config.ks = (1, 2, 4, 8)  # the K of Recall@K
    config.index = "annoy"  # or "hnsw", which needs faiss, or "exact"
    config.index_agreement = 0.99  # with exact search, on the largest of `ks`
    config.nmi_starts = 10  # of k-means, the best of which counts; 0 leaves NMI out
    config.verification = ()  # false accept rates, such as (0.001, 0.01)
    return config
