"""Trains the normalized softmax here and with pytorch-metric-learning, side by side.

The same network from the same weights on the same batches, and the same recipe: SGD
with L2 in the gradient, the learning rate cut by ten at the same epochs. Run it with
`make benchmark-against-torch`, or on Omniglot with

python -m tests.benchmarks.benchmark_training_in_torch \
    --config=experiments/configs/omniglot.py --data_dir=FOLDER_WITH_THE_ZIP_FILES
"""

import statistics
import time

import keras
import numpy as np
import pytorch_metric_learning
import torch
from absl import app
from absl import flags
from ml_collections import config_flags
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss

from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import load_data
from experiments._lib.check_config import checked_seeds
from experiments._studies.tables import mean_and_spread
from keras_dml import evaluation
from keras_dml.evaluation._ranking.processors import usable_processors
from tests.benchmarks.alternating_medians import pin_threads
from tests.models.torch_conv4 import TorchConv4

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of experiments/configs/ with trunk conv4 and dim 64."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Both train once with each.")
flags.mark_flag_as_required("config")

_BOTH_SIDES = {
    "trunk": "conv4",
    "dim": 64,
    "layer_norm": True,
    "pooling": "avg",
    "loss": "normalized_softmax",
    "sampled_classes": 1,
    "optimizer": "sgd",
    "frozen_epochs": 0,
}
"""The settings that the side in PyTorch has, whatever the config says."""


class _EpochTimes(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def _in_keras(config, embedder, model, batches, test):
    """Trains here; gives (test embeddings, seconds of each epoch)."""
    times = _EpochTimes()
    compile_model(config, model, len(batches))
    model.fit(
        batches, epochs=config.epochs, shuffle=False, verbose=0, callbacks=[times]
    )
    return evaluation.embed(embedder, test, config.resize, verbose=0), times.seconds


def _in_torch(config, twin, loss, batches, test):
    """The same in PyTorch."""
    optimizer = torch.optim.SGD(
        [*twin.parameters(), *loss.parameters()],
        config.learning_rate,
        config.momentum,
        weight_decay=config.l2,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [max(1, round(share * config.epochs)) for share in config.decay_at]
    )
    seconds = []
    twin.train()
    for _ in range(config.epochs):
        start = time.perf_counter()
        for images, labels in batches.as_numpy_iterator():
            optimizer.zero_grad()
            loss(twin(_pixels(images)), torch.tensor(labels)).backward()
            optimizer.step()
        schedule.step()
        seconds.append(time.perf_counter() - start)
    return _embed_in_torch(twin, config, test), seconds


def _embed_in_torch(twin, config, dataset):
    twin.eval()
    images = dataset.images(config.image_size, config.resize)
    with torch.no_grad():
        rows = [twin(_pixels(batch)).numpy() for batch in images.as_numpy_iterator()]
    return np.concatenate(rows)


def _pixels(images):
    images = torch.tensor(images).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=torch.contiguous_format)


def _with_a_seed(config, seed, train, test):
    """Trains both; gives {side: (R@1, MAP@R, median seconds an epoch)}."""
    config.seed = seed
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    _, embedder, model = build_models(config, len(train.class_names))
    twin = TorchConv4()
    twin.load_keras(embedder)
    loss = NormalizedSoftmaxLoss(len(train.class_names), config.dim, config.temperature)
    with torch.no_grad():
        loss.W.copy_(torch.tensor(model.layers[-1].get_weights()[0].T))
    start = evaluation.embed(embedder, test, config.resize, verbose=0)
    apart = np.abs(start - _embed_in_torch(twin, config, test)).max()
    print(f"seed {seed}: embeddings at most {apart:.1e} apart before training")

    batches = [build_batches(config, train) for _ in range(2)]
    trained = {
        "keras_dml": _in_keras(config, embedder, model, batches[0], test),
        "pytorch-metric-learning": _in_torch(config, twin, loss, batches[1], test),
    }
    figures = {}
    for side, (embeddings, seconds) in trained.items():
        metrics = evaluation.ranking_metrics(embeddings, test.labels, ks=(1,))["all"]
        # The first epoch traces.
        median = statistics.median(seconds[1:] or seconds)
        figures[side] = 100 * metrics["recall@1"], 100 * metrics["map@r"], median
        print(f"  {side}: R@1 {figures[side][0]:.1f}, {median:.2f} s an epoch")
    return figures


def main(argv):
    """Prints a table with a row for each side."""
    del argv
    config = _CONFIG.value
    for name, value in _BOTH_SIDES.items():
        if config[name] != value:
            raise app.UsageError(
                f"--config.{name} must be {value!r} here, as it is on the side in "
                f"PyTorch; got {config[name]!r}."
            )
    seeds = checked_seeds(_SEEDS.value)
    pin_threads()
    torch.set_num_threads(usable_processors())
    print(
        f"PyTorch {torch.__version__}, "
        f"pytorch-metric-learning {pytorch_metric_learning.__version__}"
    )
    train, test = load_data(config, _DATA_DIR.value)
    found = [_with_a_seed(config, seed, train, test) for seed in seeds]
    print(f"{config.epochs} epochs; mean ± deviation over seeds {seeds}")
    print("| trained with | R@1 | MAP@R | seconds an epoch |")
    print("| --- | --- | --- | --- |")
    for side in found[0]:
        columns = zip(*(figures[side] for figures in found), strict=True)
        print(f"| {side} | {' | '.join(map(mean_and_spread, columns))} |")


if __name__ == "__main__":
    app.run(main)
