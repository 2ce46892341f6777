"""What the models share that hand the labels to a layer in training."""

from __future__ import annotations

import copy
from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import check_can_export
from keras_dml._ops import integer_labels


class LabelsInTraining(keras.Model):
    """A model on an embedding model; `call` takes (inputs, labels) in training.

    It gives a tuple then, which subclasses take apart for the loss and the metrics.

    Args:
        embedder: a functional model from images to (batch, dim) embeddings. Its weights
            are shared, not copied.
        **kwargs: those of every Keras model, such as `name`.

    Raises:
        ValueError: if the embedder has not one input and one output.
    """

    _parts: tuple[str, ...] = ("embedder",)
    """Arguments that `get_config` serializes as Keras objects."""

    def __init__(self, embedder: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        try:
            sides = len(embedder.inputs), len(embedder.outputs)
        except (AttributeError, ValueError):  # a subclass; a Sequential without inputs
            sides = None
        if sides != (1, 1):
            raise ValueError(
                "embedder must be a functional keras.Model with one input and one "
                "output, such as embedding_model gives; got "
                + (f"{sides[0]} and {sides[1]}." if sides else f"{embedder!r}.")
            )
        self.embedder = embedder

    @property
    def _needs_labels(self) -> bool:
        """Whether `call` takes the labels in training."""
        return True

    def _inputs_and_labels(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Takes apart what `call` is given in training.

        Raises:
            ValueError: if that is not (inputs, labels).
        """
        if not isinstance(inputs, tuple | list) or len(inputs) != 2:
            raise ValueError(
                f"in training {self.name} takes (images, labels); train it with fit, "
                "or call it with training=False."
            )
        return tuple(inputs)

    def train_step(self, *state_and_data: Any) -> Any:
        """Trains on a batch, with its labels as an input where they are needed."""
        *state, data = state_and_data
        if self._needs_labels:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            if y is None:
                raise ValueError(f"{self.name} needs labels to train on; got y=None.")
            data = ((x, integer_labels(y)), y, sample_weight)
        return super().train_step(*state, data)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Writes what prediction computes, as every Keras model does.

        Raises:
            ValueError: if Keras runs on another backend than TensorFlow.
        """
        check_can_export()
        inputs = self.embedder.inputs[0]
        outputs = self(inputs, training=False)
        keras.Model(inputs, outputs).export(filepath, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as it was when saved; Keras leaves that to overrides."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the parts included."""
        return {
            **super().get_config(),
            **{
                name: keras.saving.serialize_keras_object(getattr(self, name))
                for name in self._parts
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LabelsInTraining:
        """Makes a model from what `get_config` gave."""
        config = copy.deepcopy(config)  # Keras removes entries from the embedder's
        for name in cls._parts:
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
