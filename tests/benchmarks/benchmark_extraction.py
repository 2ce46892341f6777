"""Embedding a folder of photographs, here and in a PyTorch loop with DataLoader.

The same network, EfficientNet-Lite0, with the same weights, reads the same JPEG files,
resizes them to 256 pixels and crops 224 from the center. PyTorch computes in inference
mode, channels last, with a thread a core, and its DataLoader has as many workers as is
best for it of 0, 1 and a worker a core; they are started before the clock. Run it with
`make benchmark-extraction`, which also lets glibc keep freed memory: that doubles
PyTorch's speed.
"""

import argparse
import functools
import pathlib
import tempfile

import numpy as np
import torch

import keras_dml
from keras_dml.evaluation._ranking.processors import usable_processors
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.jpeg_photographs import jpeg_photographs
from tests.benchmarks.torch_folder import TorchFolder
from tests.models.torch_efficientnet_lite0 import TorchEfficientNetLite0

_IMAGES = 512
_SIDE, _RESIZE, _DIM = 224, 256, 1280
_BATCH = 64
_ROUNDS = 5


def _write_photographs(folder, count):
    paths = [folder / f"{row:05}.jpg" for row in range(count)]
    for path, content in zip(paths, jpeg_photographs(count), strict=True):
        path.write_bytes(content)
    return list(map(str, paths))


def _embed_in_torch(twin, loader):
    with torch.inference_mode():
        rows = [
            twin(images.to(torch.float32, memory_format=torch.channels_last)).numpy()
            for images in loader
        ]
    return np.concatenate(rows)


def main():
    """Prints images a second, and the ratio to the best of the peer."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--images", type=int, default=_IMAGES)
    flags.add_argument("--rounds", type=int, default=_ROUNDS)
    flags = flags.parse_args()
    pin_threads()
    cores = usable_processors()
    torch.set_num_threads(cores)
    trunk = keras_dml.models.trunk("efficientnet_lite0", (_SIDE, _SIDE, 3))
    embedder = keras_dml.models.embedding_model(trunk, _DIM)
    twin = TorchEfficientNetLite0().to(memory_format=torch.channels_last).eval()
    twin.load_keras(embedder)
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_photographs(pathlib.Path(folder), flags.images)
        dataset = keras_dml.data.ImageDataset(paths, np.zeros(len(paths), int), ("",))

        def loader(workers):
            return torch.utils.data.DataLoader(
                TorchFolder(paths, _RESIZE, _SIDE),
                batch_size=_BATCH,
                num_workers=workers,
                persistent_workers=workers > 0,
                # A fork of a process in which TensorFlow runs may hang.
                multiprocessing_context="spawn" if workers else None,
            )

        loaders = {workers: loader(workers) for workers in sorted({0, 1, cores})}

        def ours():
            return keras_dml.evaluation.embed(
                embedder, dataset, _RESIZE, batch_size=_BATCH, verbose=0
            )

        apart = np.abs(ours() - _embed_in_torch(twin, loaders[0])).max()
        contestants = {"keras_dml.evaluation.embed": ours} | {
            f"PyTorch, {workers} workers": functools.partial(_embed_in_torch, twin, one)
            for workers, one in loaders.items()
        }
        seconds = alternating_medians(contestants, flags.rounds)
    mine, *theirs = seconds.values()
    print(
        f"\nEfficientNet-Lite0, {_SIDE} pixels, PyTorch {torch.__version__}; "
        f"{flags.images} files; medians of {flags.rounds} alternating rounds; "
        f"embeddings at most {apart:.1e} apart"
    )
    print("| | images/s |")
    print("| --- | --- |")
    for name, one in seconds.items():
        print(f"| {name} | {flags.images / one:,.1f} |")
    print(f"\n{min(theirs) / mine:.2f} times the best loop in PyTorch")


if __name__ == "__main__":
    main()
