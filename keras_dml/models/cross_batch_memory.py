"""An embedding model that compares a batch with the images of past batches."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import gather_replicas
from keras_dml._ops import integer_labels
from keras_dml._ops import number_of_replicas
from keras_dml._ops import ops
from keras_dml.losses import PairLoss
from keras_dml.models._labels_in_training import LabelsInTraining


@keras.saving.register_keras_serializable(package="keras_dml")
class CrossBatchMemory(LabelsInTraining):
    """An embedding model with a memory of past embeddings, for losses on pairs.

    A training step writes the embeddings of its batch, as they are, and their labels
    over the oldest of the memory. The loss then compares each image of the batch with
    all of the memory but itself: with the rest of the batch and with the images of
    past batches. No gradient flows into the memory. So a batch of few images finds
    pairs among `memory_size`, at the cost of their cosines or distances.

    It is pytorch-metric-learning's `CrossBatchMemory`. One difference: a miner never
    sees the pair of an image with itself, which there it may still count as the
    image's only positive. The paper's code adds the loss within the batch to this one.

    The memory is part of the model's weights, saved with them: training goes on from a
    file as if it had never stopped. Under `MirroredStrategy` the embeddings of all
    replicas are remembered, the same on each. Evaluation compares the images of the
    batch alone, and prediction gives embeddings. Needs Keras 3.

    Args:
        embedder: a model from images to (batch, dim) embeddings, such as
            `embedding_model` gives. Its weights are shared, not copied; save it alone
            to serve it.
        memory_size: how many images to remember, at least those of a batch. The
            default, 1024, is pytorch-metric-learning's; the paper remembers up to all
            images of the data set, as embeddings drift slowly.
        **kwargs: those of every Keras model, such as `name`.

    Call arguments:
        inputs: the embedder's input; in training a tuple of that and the labels, which
            `fit` makes.

    Returns:
        (batch, dim) embeddings; in training a tuple of those and what the loss compares
        them with.

    Raises:
        ValueError: if memory_size is out of range or less than a batch, the embedder
            has not one input and one output, the loss is not one on pairs or compares
            images of the batch alone (`NPairs`, `LiftedStructure`), or the labels to
            train on are missing or have another shape than (batch,) or (batch, 1).

    Weights:
        memory: (memory_size, dim) embeddings, float32 (float64 for float64).
        memory_labels: (memory_size,) integers.
        written: (2,) integers: the row to write next, and how many rows are in use.

    Example:
        >>> model = keras_dml.models.CrossBatchMemory(embedder, memory_size=100)
        >>> model.compile("sgd", keras_dml.losses.Contrastive())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = model.fit(batches, verbose=0)

    Reference:
        [Wang et al., 2020](https://arxiv.org/abs/1912.06798), algorithm 1.
    """

    def __init__(
        self, embedder: keras.Model, memory_size: int = 1024, **kwargs: Any
    ) -> None:
        if IS_KERAS_2:
            raise ValueError("CrossBatchMemory needs Keras 3.")
        super().__init__(embedder, **kwargs)
        self.memory_size = checked_integer(memory_size, "memory_size", 1)
        dim = embedder.output_shape[-1]
        is_wide = dtype_name(embedder.outputs[0].dtype) == "float64"
        integers = "int32" if keras.backend.backend() == "jax" else "int64"

        def state(name, shape, dtype):
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                aggregation="only_first_replica",  # They all have the same.
            )

        self.memory = state(
            "memory", (self.memory_size, dim), "float64" if is_wide else "float32"
        )
        self.memory_labels = state("memory_labels", (self.memory_size,), integers)
        self.written = state("written", (2,), "int32")
        self.built = True

    def call(
        self, inputs: Tensor | tuple[Tensor, Tensor], training: bool = False
    ) -> Any:
        """Computes embeddings; in training, of (inputs, labels), and remembers them."""
        if not training:
            return self.embedder(inputs, training=False)
        images, labels = self._inputs_and_labels(inputs)
        embeddings = self.embedder(images, training=True)
        return embeddings, *self._remember(embeddings, labels)

    def _remember(self, embeddings, labels):
        """Writes a batch; gives memory_labels, memory and which pairs to compare."""
        fixed = ops.cast(ops.stop_gradient(embeddings), self.memory.dtype)
        fixed = gather_replicas(fixed)
        labels = gather_replicas(integer_labels(labels))
        batch = ops.shape(fixed)[0]
        self._check_batch(batch)
        rows = (self.written[0] + ops.arange(batch, dtype="int32")) % self.memory_size
        memory = ops.scatter_update(self.memory, rows[:, None], fixed)
        labels = ops.cast(labels, self.memory_labels.dtype)
        memory_labels = ops.scatter_update(self.memory_labels, rows[:, None], labels)
        size = ops.cast(batch, "int32")
        row = (self.written[0] + size) % self.memory_size
        in_use = ops.minimum(self.written[1] + size, self.memory_size)
        self.memory.assign(memory)
        self.memory_labels.assign(memory_labels)
        self.written.assign(ops.stack([row, in_use]))
        slots = ops.arange(self.memory_size, dtype="int32")
        is_pair = ops.logical_and(slots[None, :] != rows[:, None], slots < in_use)
        return memory_labels, memory, is_pair

    def _check_batch(self, batch):
        """Raises if a batch does not fit into the memory."""
        message = (
            f"memory_size must be at least the size of a batch; got {self.memory_size}."
        )
        if isinstance(batch, int):
            if batch > self.memory_size:
                raise ValueError(message)
        else:  # of unknown size, in a graph of TensorFlow
            import tensorflow as tf

            tf.debugging.assert_less_equal(batch, self.memory_size, message)

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any
    ) -> None:
        """Configures the model for training, as every Keras model."""
        super().compile(optimizer, loss, **kwargs)
        if not isinstance(self.loss, PairLoss):
            raise ValueError(
                "loss of CrossBatchMemory must be one on pairs, such as "
                f"keras_dml.losses.Contrastive(); got {self.loss!r}."
            )
        if not self.loss.takes_references:
            raise ValueError(
                f"{type(self.loss).__name__} compares the images of a batch alone, and "
                "can't be trained with CrossBatchMemory. Take another loss, or give "
                "its batch_loss a fourth argument, references."
            )
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "loss_weights must be None with CrossBatchMemory; it has one loss."
            )

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Computes the loss against the memory, or within the batch in evaluation."""
        if not isinstance(y_pred, tuple):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        embeddings, *remembered = y_pred
        if sample_weight is not None:
            self.loss(y, embeddings, sample_weight)  # raises
        value = self.loss.memory_loss(y, embeddings, *remembered)
        for regularization in self.losses:
            value = value + ops.cast(regularization, value.dtype) / number_of_replicas()
        return value

    def compute_metrics(
        self, x: Any, y: Tensor, y_pred: Any, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Updates the metrics on the embeddings of the batch."""
        if isinstance(y_pred, tuple):
            y_pred = y_pred[0]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, embedder and memory_size included."""
        return {**super().get_config(), "memory_size": self.memory_size}
