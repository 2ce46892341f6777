"""Keras's random layers, and functions of a seed, drawn anew for each image."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dml._ops import IS_KERAS_2

_REFUSED = {
    "MixUp": "mixes images of different classes",
    "CutMix": "mixes images of different classes",
    "AugMix": "draws its operations once for all images in a tf.data pipeline; "
    "RandAugment draws them for each",
}


class Augmentation:
    """Layers and functions, one after another, as a function of an image and seeds.

    A layer of Keras 3 draws from the states of its `SeedGenerator`s, which change with
    every call. Here each state is replaced by a seed while the layer is traced, so the
    same seeds give the same pixels, whatever came before.

    Args:
        augment: a Keras layer, a function from (images, seed), a batch of one and (2,)
            int32, to images, or a sequence of these.
        example: one image, as they come: (...) of any dtype.

    Attributes:
        seeds: how many seeds an image takes.
        shape: of an image afterwards.

    Raises:
        ValueError: if a layer or function is of another kind, can't be applied to the
            example, or gives two results for one seed.
    """

    def __init__(
        self,
        augment: keras.layers.Layer | Callable | Sequence[Any],
        example: tf.Tensor,
    ):
        given = augment if isinstance(augment, list | tuple) else [augment]
        self._steps: list[tuple[Callable, int]] = []
        images = tf.TensorSpec((1, *example.shape), example.dtype)
        for one in given:
            step, seeds = _step(one, images)
            self._steps.append((step, seeds))
            try:
                traced = step.get_concrete_function(images, _seeds_spec(seeds))
            except Exception as error:
                raise _not_applicable(one, images, error) from error
            images = _checked_output(one, traced.structured_outputs)
        self.seeds = sum(seeds for _, seeds in self._steps)
        self.shape = tuple(images.shape[1:])
        self._check_repeats(example)

    def __call__(self, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Augments one image.

        Args:
            image: of the example's shape and dtype.
            seeds: (seeds, 2) int32.
        """
        images = image[None]
        first = 0
        for step, count in self._steps:
            images = step(images, seeds[first : first + count])
            first += count
        return images[0]

    def _check_repeats(self, example):
        rng = np.random.default_rng(0)
        for _ in range(4):
            seeds = tf.constant(draw_seeds(rng, 1, self.seeds)[0])
            one, again = (
                tf.io.serialize_tensor(self(example, seeds)) for _ in range(2)
            )
            if one != again:
                raise ValueError(
                    "augment gave two different images for one seed. Draw with the "
                    "seed that the function is given, as tf.random.stateless_uniform "
                    "does, and in layers with keras.random.SeedGenerator."
                )


def draw_seeds(rng: np.random.Generator, images: int, seeds: int) -> np.ndarray:
    """Draws (images, seeds, 2) int32, the first ones whatever the number of seeds."""
    drawn = rng.integers(0, 2**31, (seeds, images, 2), np.int64)
    return drawn.astype(np.int32).swapaxes(0, 1)


def _seeds_spec(count):
    return tf.TensorSpec((count, 2), tf.int32)


def _step(one, images):
    """Gives a tf.function of (images, seeds), and how many seeds it takes."""
    if isinstance(one, keras.layers.Layer):
        return _step_of_layer(one, images)
    if not callable(one):
        raise ValueError(
            "augment must be a Keras layer, a function (images, seed), or a sequence "
            f"of them; got {one!r}."
        )
    return tf.function(lambda images, seeds: one(images, seeds[0])), 1


def _step_of_layer(layer, images):
    if IS_KERAS_2:
        raise ValueError(
            f"augment={layer.name!r}: layers need Keras 3. On Keras 2 pass a function "
            "(images, seed) that calls TensorFlow's stateless random functions."
        )
    for part in layer._flatten_layers():
        reason = _REFUSED.get(type(part).__name__)
        if reason:
            raise ValueError(
                f"augment can't have {type(part).__name__}, as it {reason}."
            )
    takes_training = "training" in inspect.signature(layer.call).parameters
    options = {"training": True} if takes_training else {}

    def call(images):
        return layer(images, **options)

    try:
        # Builds the layer, and on other backends its generators for TensorFlow.
        tf.function(call).get_concrete_function(images)
    except Exception as error:
        raise _not_applicable(layer, images, error) from error
    states = _seed_states(layer)

    def call_with_seeds(images, seeds):
        # Not given to the scope, which would make tensors of Keras's backend of them.
        with keras.StatelessScope() as scope:
            for number, state in enumerate(states):
                seed = tf.cast(seeds[number], state.dtype)
                scope.state_mapping[id(state)] = seed
            return call(images)

    return tf.function(call_with_seeds), len(states)


def _seed_states(layer):
    generators = []
    for part in layer._flatten_layers():
        if keras.backend.backend() == "tensorflow":
            generators += part._seed_generators
        else:
            generators += getattr(part, "_backend_generators", {}).values()
    return [generator.state for generator in generators]


def _checked_output(one, images):
    shape = getattr(images, "shape", None)
    if shape is None or shape.rank is None or None in shape or shape[:1] != (1,):
        raise ValueError(
            f"augment must give one batch of one image, of a fixed shape; {_name(one)} "
            f"gave {images}."
        )
    return tf.TensorSpec(shape, images.dtype)


def _not_applicable(one, images, error):
    return ValueError(
        f"augment: {_name(one)} can't be applied to a batch of one of shape "
        f"{tuple(images.shape)}, {images.dtype.name}: {error}"
    )


def _name(one):
    return getattr(one, "name", None) or getattr(one, "__name__", repr(one))
