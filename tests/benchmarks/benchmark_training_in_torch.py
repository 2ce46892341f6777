"""Trains the normalized softmax here and with pytorch-metric-learning, side by side.

The same network from the same weights on the same batches, and the same recipe: epochs
with the trunk frozen, then SGD from new with L2 in the gradient, the learning rate cut
by ten at the same epochs. Run it with `make benchmark-against-torch`, on Omniglot with

python -m tests.benchmarks.benchmark_training_in_torch \
    --config=experiments/configs/omniglot.py --data_dir=FOLDER_WITH_THE_ZIP_FILES

or on photographs with

python -m tests.benchmarks.benchmark_training_in_torch \
    --config=experiments/configs/image_folder_paper.py --config.dim=1280 \
    --config.trunk=efficientnet_lite0 --config.classes=3 --config.images_per_class=25 \
    --data_dir=FOLDER
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
from keras_dml import training
from keras_dml.evaluation._ranking.processors import usable_processors
from tests.benchmarks.alternating_medians import pin_threads
from tests.models.torch_conv4 import TorchConv4
from tests.models.torch_efficientnet_lite0 import TorchEfficientNetLite0

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of experiments/configs/, with a trunk and dim of _TWINS.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Both train once with each.")
flags.mark_flag_as_required("config")

_TWINS = {
    ("conv4", 64): (TorchConv4, torch.contiguous_format),
    ("efficientnet_lite0", 1280): (TorchEfficientNetLite0, torch.channels_last),
}
"""{(trunk, dim): the same network in PyTorch, and the memory format in which it is
fastest}; each adds no layer after the pool."""

_BOTH_SIDES = {
    "layer_norm": True,
    "pooling": "avg",
    "loss": "normalized_softmax",
    "sampled_classes": 1,
    "batch_norm": "train",
    "class_weights": "random",
    "augment": "",
    "optimizer": "sgd",
    "schedule": "step",
    "layer_decay": 1,
    "precision": "float32",
}
"""The settings that the side in PyTorch has, whatever the config says."""

_ALIKE = 1e-3
"""Losses of a step are as good as equal up to this share of them."""


class _Steps(keras.callbacks.Callback):
    """Notes the loss and the seconds of each step."""

    def __init__(self):
        super().__init__()
        self.losses, self.seconds = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)
        # Keras tells the mean over the epoch so far.
        before = self.total if batch else 0
        self.total = logs["loss"] * (batch + 1)
        self.losses.append(self.total - before)


def _in_keras(config, trunk, model, batches):
    """Trains here; gives (losses, seconds), one a step."""
    steps = _Steps()
    compile_model(config, model, len(batches))
    model.fit(
        batches,
        epochs=config.frozen_epochs + config.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[training.FreezeTrunk(trunk, config.frozen_epochs), steps],
    )
    return steps.losses, steps.seconds


def _in_torch(config, twin, memory_format, loss, batches):
    """The same in PyTorch."""
    losses, seconds = [], []
    for parameters, epochs, decay_at in (
        (loss.parameters(), config.frozen_epochs, ()),
        ([*twin.parameters(), *loss.parameters()], config.epochs, config.decay_at),
    ):
        optimizer = torch.optim.SGD(
            parameters, config.learning_rate, config.momentum, weight_decay=config.l2
        )
        schedule = torch.optim.lr_scheduler.MultiStepLR(
            optimizer, [max(1, round(share * epochs)) for share in decay_at]
        )
        # The backward pass ends at the pool where nothing below it trains.
        twin.requires_grad_(bool(decay_at))
        twin.train()
        for _ in range(epochs):
            for images, labels in batches.as_numpy_iterator():
                start = time.perf_counter()
                optimizer.zero_grad()
                pixels = _pixels(images, memory_format)
                value = loss(twin(pixels), torch.tensor(labels))
                value.backward()
                optimizer.step()
                losses.append(value.item())
                seconds.append(time.perf_counter() - start)
            schedule.step()
    return losses, seconds


def _embed_in_torch(twin, memory_format, config, dataset):
    twin.eval()
    images = dataset.images(config.image_size, config.resize)
    with torch.no_grad():
        rows = [
            twin(_pixels(batch, memory_format)).numpy()
            for batch in images.as_numpy_iterator()
        ]
    return np.concatenate(rows)


def _pixels(images, memory_format):
    images = torch.tensor(images).permute(0, 3, 1, 2)
    return images.to(torch.float32, memory_format=memory_format)


def _with_a_seed(config, seed, train, test):
    """Trains both; gives {side: (R@1, MAP@R, median milliseconds a step)}."""
    config.seed = seed
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    trunk, embedder, model = build_models(config, len(train.class_names))
    new_twin, memory_format = _TWINS[config.trunk, config.dim]
    twin = new_twin().to(memory_format=memory_format)
    twin.load_keras(embedder)
    loss = NormalizedSoftmaxLoss(len(train.class_names), config.dim, config.temperature)
    with torch.no_grad():
        loss.W.copy_(torch.tensor(model.layers[-1].get_weights()[0].T))

    def embed():
        return {
            "keras_dml": evaluation.embed(embedder, test, config.resize, verbose=0),
            "pytorch-metric-learning": _embed_in_torch(
                twin, memory_format, config, test
            ),
        }

    apart = np.abs(np.subtract(*embed().values())).max()
    print(f"seed {seed}: embeddings at most {apart:.1e} apart before training")
    batches = [build_batches(config, train) for _ in range(2)]
    trained = {
        "keras_dml": _in_keras(config, trunk, model, batches[0]),
        "pytorch-metric-learning": _in_torch(
            config, twin, memory_format, loss, batches[1]
        ),
    }
    _print_differences(config, len(batches[0]), *(one[0] for one in trained.values()))
    frozen = config.frozen_epochs * len(batches[0])
    figures = {}
    for side, embeddings in embed().items():
        metrics = evaluation.ranking_metrics(embeddings, test.labels, ks=(1,))["all"]
        # The first step traces.
        milliseconds = 1000 * statistics.median(trained[side][1][frozen + 1 :])
        figures[side] = 100 * metrics["recall@1"], 100 * metrics["map@r"], milliseconds
        print(f"  {side}: R@1 {figures[side][0]:.1f}, {milliseconds:.0f} ms a step")
    return figures


def _print_differences(config, steps, ours, theirs):
    """Prints how far the losses of the two sides are apart in the first epochs."""
    apart = np.abs(np.subtract(ours, theirs)) / np.abs(theirs)
    starts = {"the first epoch": 0}
    if config.frozen_epochs:
        starts = {
            "the first frozen epoch": 0,
            "the first epoch of all weights": config.frozen_epochs * steps,
        }
    for name, start in starts.items():
        of_epoch = apart[start : start + steps]
        within = int(np.argmax(np.append(of_epoch, np.inf) > _ALIKE))
        print(
            f"  losses in {name} at most {of_epoch.max():.1e} apart, relatively, and "
            f"{of_epoch.mean():.1e} in the mean; within {_ALIKE:g} for the first "
            f"{within} of {len(of_epoch)} steps"
        )


def main(argv):
    """Prints a table with a row for each side."""
    del argv
    config = _CONFIG.value
    if (config.trunk, config.dim) not in _TWINS:
        pairs = ", ".join(f"{trunk} and {dim}" for trunk, dim in _TWINS)
        raise app.UsageError(
            f"--config.trunk and --config.dim must be {pairs} here; got "
            f"{config.trunk} and {config.dim}."
        )
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
    print(
        f"{config.frozen_epochs} frozen and {config.epochs} epochs of {len(train):,} "
        f"images; mean ± deviation over seeds {seeds}"
    )
    print("| trained with | R@1 | MAP@R | ms a step |")
    print("| --- | --- | --- | --- |")
    for side in found[0]:
        columns = zip(*(figures[side] for figures in found), strict=True)
        print(f"| {side} | {' | '.join(map(mean_and_spread, columns))} |")


if __name__ == "__main__":
    app.run(main)
