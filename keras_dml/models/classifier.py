"""An embedding model with a classifier that may draw its classes."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies
from keras_dml.models._labels_in_training import LabelsInTraining


@keras.saving.register_keras_serializable(package="keras_dml")
class Classifier(LabelsInTraining):
    """An embedding model with a `NormalizedSoftmax` or `Proxies` that gets the labels.

    With `sampled_classes` a training step runs over the batch's classes and some
    others. Loss and metrics get the logits of those, and as label the column of the
    image's own class; an accuracy in training is among the sampled classes. A class
    that has two columns counts in one, and the other's logit is -1e9: the loss must be
    a softmax cross-entropy of the label alone, without label smoothing. Evaluation and
    prediction run over all classes. Without `sampled_classes` the model computes what
    `keras.Model(embedder.input, softmax(embedder.output))` does.

    With `Proxies` the loss is one of `keras_dml.losses` on cosines that is a softmax
    over the classes, with or without a margin: `ArcFace`, `SubCenterArcFace`,
    `CosFace`, `SoftTriple`, `ProxyNCA` or `ProxyNCAPlusPlus`. Its estimate of the loss
    over all classes is that of `NormalizedSoftmax.sampled_logits`: log((n - c) / d) is
    added to the logits of the d drawn classes, for the n - c that are not in the
    batch. Partial FC (InsightFace's `PartialFC_V2`) draws the same classes and adds
    nothing, so that its loss is that of a data set of as many classes as are drawn;
    with all classes drawn both are the full loss.

    Args:
        embedder: a model from images to (batch, dim) embeddings, such as
            `embedding_model` gives. Its weights are shared, not copied.
        softmax: a `NormalizedSoftmax`, or `Proxies`.
        **kwargs: those of every Keras model, such as `name`.

    Call arguments:
        inputs: the embedder's input; in training with `sampled_classes` a tuple of that
            and the labels, which `fit` makes.

    Returns:
        (batch, num_classes) logits or cosines; in training with `sampled_classes` what
        `NormalizedSoftmax.sampled_logits` or `Proxies.sampled_cosines` gives.

    Raises:
        ValueError: if softmax is no such layer or is built for another dim, the
            embedder has not one input and one output, the loss of drawn classes is a
            known one that is no softmax over them, or the labels to train on are
            missing or have another shape than (batch,) or (batch, 1).

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

        The same with a margin:

        >>> proxies = keras_dml.layers.Proxies(4, sampled_classes=2)
        >>> model = keras_dml.models.Classifier(embedder, proxies)
        >>> model.compile("sgd", keras_dml.losses.ArcFace(), metrics=["accuracy"])
        >>> history = model.fit(batches, verbose=0)

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), on class subsampling;
        [An et al., 2022](https://arxiv.org/abs/2203.15565), Partial FC.
    """

    _parts = ("embedder", "softmax")

    def __init__(self, embedder: keras.Model, softmax: Proxies, **kwargs: Any) -> None:
        if not isinstance(softmax, Proxies):
            raise ValueError(
                "softmax must be a keras_dml.layers.NormalizedSoftmax or Proxies; got "
                f"{softmax!r}."
            )
        super().__init__(embedder, **kwargs)
        self.softmax = softmax
        if not softmax.built:
            softmax.build(embedder.output_shape)
        elif softmax.class_weights.shape[1] != embedder.output_shape[-1]:
            raise ValueError(
                f"softmax has class weights of {softmax.class_weights.shape[1]} "
                f"numbers, and the embedder gives {embedder.output_shape[-1]}. Make a "
                f"new {type(softmax).__name__} for it."
            )
        self.built = True

    @property
    def _needs_labels(self):
        return self.softmax.sampled_classes is not None

    def call(
        self, inputs: Tensor | tuple[Tensor, Tensor], training: bool = False
    ) -> Any:
        """Computes the logits; in training, of (inputs, labels), with their columns."""
        if not training or not self._needs_labels:
            return self.softmax(self.embedder(inputs, training=training))
        images, labels = self._inputs_and_labels(inputs)
        embeddings = self.embedder(images, training=True)
        if isinstance(self.softmax, NormalizedSoftmax):
            return self.softmax.sampled_logits(embeddings, labels)
        return self.softmax.sampled_cosines(embeddings, labels)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configures the model for training, as every Keras model."""
        super().compile(*args, **kwargs)
        if not self._needs_labels:
            return
        if isinstance(self.softmax, NormalizedSoftmax):
            if self.loss is not None:
                _check_cross_entropy(self.loss)
        elif getattr(self.loss, "logit_scale", None) is None:
            raise ValueError(
                "loss of Proxies with sampled_classes must be a softmax over the "
                "classes, such as keras_dml.losses.ArcFace(), CosFace(), SoftTriple() "
                f"or ProxyNCAPlusPlus(); got {self.loss!r}. For that one leave "
                "sampled_classes out."
            )

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Computes the loss over the sampled classes, or over all in evaluation."""
        if isinstance(y_pred, tuple):
            y_pred, y, *corrections = y_pred
            for correction in corrections:
                y_pred = y_pred + correction / self.loss.logit_scale
        return super().compute_loss(x, y, y_pred, *args, **kwargs)

    def compute_metrics(
        self, x: Any, y: Tensor, y_pred: Any, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Updates the metrics on the sampled classes, or on all in evaluation."""
        if isinstance(y_pred, tuple):
            y_pred, y, *_ = y_pred
        return super().compute_metrics(x, y, y_pred, sample_weight)


def _check_cross_entropy(loss):
    """Raises for losses of Keras and this package that take no sampled logits."""
    named = loss if hasattr(loss, "__name__") else type(loss)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        takes_logits = loss.get_config()["from_logits"]
    else:
        takes_logits = not (
            isinstance(loss, str)
            or named.__module__.partition(".")[0] in ("keras", "keras_dml")
        )
    if not takes_logits:
        raise ValueError(
            "loss of a NormalizedSoftmax with sampled_classes must be "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True), without "
            f"label smoothing; got {loss!r}."
        )
