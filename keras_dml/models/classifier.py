"""An embedding model with a softmax that may draw its classes."""

from __future__ import annotations

import copy
from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import integer_labels
from keras_dml.layers import NormalizedSoftmax


@keras.saving.register_keras_serializable(package="keras_dml")
class Classifier(keras.Model):
    """An embedding model with a `NormalizedSoftmax`, to which it passes the labels.

    With `sampled_classes` a training step runs over the batch's classes and some
    others. Loss and metrics get the logits of those, and as label the column of the
    image's own class; an accuracy in training is among the sampled classes. A class
    that has two columns counts in one, and the other's logit is -1e9: the loss must be
    a softmax cross-entropy of the label alone, without label smoothing. Evaluation and
    prediction run over all classes. Without `sampled_classes` the model computes what
    `keras.Model(embedder.input, softmax(embedder.output))` does.

    Args:
        embedder: a model from images to (batch, dim) embeddings, such as
            `embedding_model` gives. Its weights are shared, not copied.
        softmax: a `NormalizedSoftmax`.
        **kwargs: those of every Keras model, such as `name`.

    Call arguments:
        inputs: the embedder's input; in training with `sampled_classes` a tuple of that
            and the labels, which `fit` makes.

    Returns:
        (batch, num_classes) logits; in training with `sampled_classes` what
        `NormalizedSoftmax.sampled_logits` gives.

    Raises:
        ValueError: if softmax is not a `NormalizedSoftmax` or is built for another
            dim, the embedder has not one input and one output, or the labels to train
            on are missing or have another shape than (batch,) or (batch, 1).

    Example:
        >>> softmax = keras_dml.layers.NormalizedSoftmax(4, sampled_classes=2)
        >>> model = keras_dml.models.Classifier(embedder, softmax)
        >>> model.compile(
        ...     keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ... )
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=4, image_size=28
        ... )
        >>> history = model.fit(batches, verbose=0)
        >>> model.predict(np.zeros((3, 28, 28, 3)), verbose=0).shape
        (3, 4)

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), on class subsampling.
    """

    def __init__(
        self, embedder: keras.Model, softmax: NormalizedSoftmax, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(softmax, NormalizedSoftmax):
            raise ValueError(
                "softmax must be a keras_dml.layers.NormalizedSoftmax; got "
                f"{softmax!r}."
            )
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
        self.softmax = softmax
        if not softmax.built:
            softmax.build(embedder.output_shape)
        elif softmax.class_weights.shape[1] != embedder.output_shape[-1]:
            raise ValueError(
                f"softmax has class weights of {softmax.class_weights.shape[1]} "
                f"numbers, and the embedder gives {embedder.output_shape[-1]}. Make a "
                "new NormalizedSoftmax for it."
            )
        self.built = True

    def call(
        self, inputs: Tensor | tuple[Tensor, Tensor], training: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Computes the logits; in training, of (inputs, labels), with their columns."""
        if not training or self.softmax.sampled_classes is None:
            return self.softmax(self.embedder(inputs, training=training))
        if not isinstance(inputs, tuple | list) or len(inputs) != 2:
            raise ValueError(
                f"in training {self.name} draws classes and takes (images, labels); "
                "train it with fit, or call it with training=False."
            )
        images, labels = inputs
        embeddings = self.embedder(images, training=True)
        return self.softmax.sampled_logits(embeddings, labels)

    def train_step(self, *state_and_data: Any) -> Any:
        """Trains on a batch, with its labels as an input where classes are drawn."""
        *state, data = state_and_data
        if self.softmax.sampled_classes is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            if y is None:
                raise ValueError(f"{self.name} needs labels to train on; got y=None.")
            data = ((x, integer_labels(y)), y, sample_weight)
        return super().train_step(*state, data)

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Computes the loss over the sampled classes, or over all in evaluation."""
        y, y_pred = _labels_and_logits(y, y_pred)
        return super().compute_loss(x, y, y_pred, *args, **kwargs)

    def compute_metrics(
        self, x: Any, y: Tensor, y_pred: Any, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Updates the metrics on the sampled classes, or on all in evaluation."""
        y, y_pred = _labels_and_logits(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, embedder and softmax included."""
        return {
            **super().get_config(),
            "embedder": keras.saving.serialize_keras_object(self.embedder),
            "softmax": keras.saving.serialize_keras_object(self.softmax),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Classifier:
        """Makes a model from what `get_config` gave."""
        config = copy.deepcopy(config)  # Keras removes entries from the embedder's
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("embedder", "softmax")
        }
        return cls(**{**config, **parts})


def _labels_and_logits(labels: Tensor, output: Any) -> tuple[Tensor, Tensor]:
    """Takes labels from the model's output where that is (sampled logits, columns)."""
    if isinstance(output, tuple):
        output, labels = output
    return labels, output
