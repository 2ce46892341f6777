"""Keras's random layers, and functions of a seed, drawn anew for each image."""

from __future__ import annotations

import inspect
import pickle
import random
import re
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
_WITH_THE_SEED = (
    "Draw with the seed that the function is given, as tf.random.stateless_uniform "
    "does, and in layers with keras.random.SeedGenerator."
)


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
            example, or gives two results for one seed, as also a function does that
            draws with NumPy or Python, once for each pipeline.
    """

    def __init__(
        self,
        augment: keras.layers.Layer | Callable | Sequence[Any],
        example: tf.Tensor,
    ):
        given = augment if isinstance(augment, list | tuple) else [augment]
        self._steps: list[tuple[Callable, int]] = []
        traced_again = []
        images = tf.TensorSpec((1, *example.shape), example.dtype)
        for one in given:
            step, seeds = _step(one, images)
            self._steps.append((step, seeds))
            output = _trace(one, step, images, seeds)
            traced_again.append((_traced_again(one, step, images), seeds))
            images = _checked_output(one, output)
        self.seeds = sum(seeds for _, seeds in self._steps)
        self.shape = tuple(images.shape[1:])
        self._check_repeats(example, traced_again)

    def __call__(self, image: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Augments one image.

        Args:
            image: of the example's shape and dtype.
            seeds: (seeds, 2) int32.
        """
        return _apply(self._steps, image, seeds)

    def _check_repeats(self, example, traced_again):
        rng = np.random.default_rng(0)
        for _ in range(4):
            seeds = tf.constant(draw_seeds(rng, 1, self.seeds)[0])
            one, again, of_another_trace = (
                tf.io.serialize_tensor(_apply(steps, example, seeds))
                for steps in (self._steps, self._steps, traced_again)
            )
            if one != again:
                raise ValueError(
                    f"augment gave two different images for one seed. {_WITH_THE_SEED}"
                )
            if one != of_another_trace:
                raise _drawn_in_python("a function")


def draw_seeds(rng: np.random.Generator, images: int, seeds: int) -> np.ndarray:
    """Draws (images, seeds, 2) int32, the first ones whatever the number of seeds."""
    drawn = rng.integers(0, 2**31, (seeds, images, 2), np.int64)
    return drawn.astype(np.int32).swapaxes(0, 1)


def _apply(steps, image, seeds):
    """Runs (function, seeds it takes) one after another on one image."""
    images = image[None]
    first = 0
    for step, count in steps:
        images = step(images, seeds[first : first + count])
        first += count
    return images[0]


def _trace(one, step, images, seeds):
    """Traces a step and gives its output."""
    try:
        traced = step.get_concrete_function(images, tf.TensorSpec((seeds, 2), tf.int32))
    except Exception as error:
        raise _not_applicable(one, images, error) from error
    return traced.structured_outputs


def _traced_again(one, step, images):
    """Gives a function's step anew, as another pipeline traces it.

    What Python and NumPy draw while it is traced is a constant of the pipeline. Their
    own generators tell of each draw; those of the function's, by another constant.
    """
    if isinstance(one, keras.layers.Layer):
        return step
    step, seeds = _step(one, images)
    before = _states_of_generators()
    _trace(one, step, images, seeds)
    if _states_of_generators() != before:
        raise _drawn_in_python(_name(one))
    return step


def _states_of_generators():
    return pickle.dumps((random.getstate(), np.random.get_state()))


def _drawn_in_python(drawer):
    return ValueError(
        f"augment: {drawer} draws with NumPy or Python, which run once, when the "
        "batches are made: all images would have one draw, and the same run another "
        f"when it goes on. {_WITH_THE_SEED}"
    )


def _step(one, images):
    """Gives a tf.function of (images, seeds), and how many seeds it takes."""
    if isinstance(one, keras.layers.Layer):
        return _step_of_layer(one, images)
    if isinstance(one, type) or not callable(one):
        raise ValueError(
            "augment must be a Keras layer, a function (images, seed), or a sequence "
            f"of them; got {one!r}."
            + (f" Make an instance, {one.__name__}(…)." if callable(one) else "")
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
        # Here, as tensors made in a trace are lost with it.
        if not layer.built and type(layer).build is not keras.layers.Layer.build:
            layer.build(tuple(images.shape))
        # Builds what is in the layer, and on other backends its generators.
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
        f"{tuple(images.shape)}, {images.dtype.name}: {_reason(error)}"
    )


def _reason(error):
    """Gives what an error says, without the calls and arguments around it."""
    text = str(error)
    if text.startswith("in user code:"):
        text = text.split("\n\n", 2)[-1]
    # Keras has the reason in bold.
    said = re.search("\x1b\\[1m(.*?)\x1b\\[0m", text, re.DOTALL)
    text = said[1] if said else text
    return " ".join(text.strip().split("\n\n")[0].split())


def _name(one):
    return getattr(one, "name", None) or getattr(one, "__name__", repr(one))
