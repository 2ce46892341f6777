"""Running the programs as a user does, and small data for them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

from tests import fork_server

ROOT = pathlib.Path(__file__).parents[2]


def run_program(name, *arguments, cwd=ROOT, **environment):
    """Runs `python -m experiments.<name>`; gives the finished process, with text."""
    if environment:
        return start_program(name, *arguments, cwd=cwd, **environment)
    return fork_server.run_module(f"experiments.{name}", *arguments, cwd=cwd)


def start_program(name, *arguments, cwd=ROOT, **environment):
    """The same from a real start, which takes seconds more."""
    environment = {**os.environ, **environment}
    # Importing `experiments` in this process set it; a user's shell has not.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def run_with_counts(loader, counts, name, *arguments):
    """Like `run_program`, with a loader that takes these counts for the official."""
    return fork_server.run_module(
        "tests.experiments.with_counts", loader, json.dumps(counts), name, *arguments
    )


def write_photos(root, classes=6, images=6, side=40, suffix="jpg"):
    """Writes root/train and root/test: noisy images of one color a class."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(classes):
            folder = root / split / f"{split} class {number}"
            folder.mkdir(parents=True)
            color = rng.integers(0, 256, 3)
            for copy in range(images):
                noise = rng.normal(0, 20, (side, side + 10, 3))
                pixels = np.clip(color + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{copy}.{suffix}")
    return root


SMALL = (
    "--config=experiments/configs/image_folder_paper.py",
    "--config.trunk=conv4",
    "--config.weights=",
    "--config.image_size=28",
    "--config.resize=32",
    "--config.dim=20",
    "--config.classes=4",
    "--config.images_per_class=3",
    "--config.frozen_epochs=0",
    "--config.epochs=2",
    "--config.ks=(1,2)",
)
"""Overrides that make a run of seconds."""
