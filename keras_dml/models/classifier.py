"""An embedding model under a softmax that may draw its classes."""

import copy

import keras

from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers._sampling import whole_labels


@keras.saving.register_keras_serializable(package="keras_dml")
class Classifier(keras.Model):
    """An embedding model under a `NormalizedSoftmax`, which it hands the labels.

    With `sampled_classes` a training step runs over the batch's classes and some
    others. Loss and metrics get the logits of those, and for label the column of the
    image's own class; an accuracy in training is among the sampled classes. A class
    that has two columns counts in one, and the other's logit is -1e9: the loss must be
    a softmax cross-entropy of the label alone, without label smoothing. Evaluation and
    prediction run over all classes. Without `sampled_classes` it is
    `keras.Model(embedder.input, softmax(embedder.output))`.

    Args:
        embedder: a model from images to (batch, dim) embeddings, such as
            `embedding_model` gives. Its weights are shared, not copied.
        softmax: a `NormalizedSoftmax`.
        **kwargs: what every Keras model takes.

    Call arguments:
        inputs: the embedder's input; in training with `sampled_classes` a tuple of that
            and the labels, which `fit` makes.

    Returns:
        (batch, num_classes) logits; in training with `sampled_classes` what
        `NormalizedSoftmax.sampled_logits` gives.

    Raises:
        ValueError: if softmax is not a `NormalizedSoftmax` or one of another width, the
            embedder has not one input and one output, or there are no labels to train
            on or they are no class numbers.

    Example:
        >>> softmax = keras_dml.layers.NormalizedSoftmax(100_000, sampled_classes=0.1)
        >>> model = keras_dml.models.Classifier(embedder, softmax)
        >>> model.compile(
        ...     keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ... )
        >>> model.fit(class_balanced_batches(train, 15, 5))

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), on class subsampling.
    """

    def __init__(self, embedder, softmax, **kwargs):
        """Checks the parts; the class docstring has them."""
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
                f"numbers, and the embedder gives {embedder.output_shape[-1]}."
            )
        self.built = True

    def call(self, inputs, training=False):
        """Gives the logits; in training, of (inputs, labels), with their columns."""
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

    def train_step(self, *state_and_data):
        """Trains on a batch, whose labels the softmax is given too."""
        *state, data = state_and_data
        if self.softmax.sampled_classes is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            if y is None:
                raise ValueError(f"{self.name} needs labels to train on; got y=None.")
            data = ((x, whole_labels(y)), y, sample_weight)
        return super().train_step(*state, data)

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        """Takes the loss of the logits that there are."""
        y, y_pred = _of_sample(y, y_pred)
        return super().compute_loss(x, y, y_pred, *args, **kwargs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Takes the metrics of the logits that there are."""
        y, y_pred = _of_sample(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_config(self):
        """Adds the two parts to the configuration."""
        return {
            **super().get_config(),
            "embedder": keras.saving.serialize_keras_object(self.embedder),
            "softmax": keras.saving.serialize_keras_object(self.softmax),
        }

    @classmethod
    def from_config(cls, config):
        """Makes the parts, and the model of them."""
        config = copy.deepcopy(config)  # Keras empties that of the embedder
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("embedder", "softmax")
        }
        return cls(**{**config, **parts})


def _of_sample(labels, logits):
    """Labels and logits over the sample, where the logits come with their columns."""
    if isinstance(logits, tuple):
        logits, labels = logits
    return labels, logits
