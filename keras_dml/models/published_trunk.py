"""A trunk whose ImageNet weights are published as a PyTorch checkpoint."""

import dataclasses
from collections.abc import Callable

import keras


@dataclasses.dataclass(frozen=True)
class PublishedTrunk:
    """What there is to know about such a trunk.

    Attributes:
        build: makes it, with random weights, for an input shape of
            (height, width, 3).
        checkpoint: gives the path of the file with its ImageNet weights, fetched
            where that is needed.
        passed_over: modules of the published network that are not in the trunk.
    """

    build: Callable[[tuple[int, int, int]], keras.Model]
    checkpoint: Callable[[], str]
    passed_over: tuple[str, ...]
