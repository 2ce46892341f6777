"""What `--config.loss` may name: each loss, what it takes, and how it is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import ml_collections

from experiments._lib import addons
from keras_dml import layers
from keras_dml import losses


@dataclasses.dataclass(frozen=True)
class TrainedLoss:
    """A loss with what the experiments need to train with it.

    Args:
        make: makes the loss, with the values of its paper.
        takes: "logits" of `NormalizedSoftmax`, "cosines" of `Proxies`, "embeddings" as
            unit vectors, or "features", which are the embeddings before they are
            scaled to length 1.
        rate_factor: is multiplied with `config.learning_rate`, which is the normalized
            softmax's. The losses differ in how steep they are in the cosine of a pair:
            20 for a temperature of 0.05, 64 for a scale of 64, about 1 for a triplet.
            The factors make up for that, to half an order of magnitude; they were not
            tuned.
        images_per_class: what the loss can use, if not what the config says; the batch
            keeps its size.
        centers, center_temperature: what `Proxies` is given, the values of the paper.
    """

    make: Callable[[], keras.losses.Loss]
    takes: str
    rate_factor: float = 1.0
    images_per_class: int | None = None
    centers: int = 1
    center_temperature: float | None = None

    @property
    def is_pair_loss(self) -> bool:
        """Whether it compares the images of a batch with each other."""
        return self.takes in ("embeddings", "features")

    @property
    def can_draw_classes(self) -> bool:
        """Whether it is a softmax that may run over drawn classes."""
        if self.takes == "logits":
            return True
        return self.takes == "cosines" and self.make().logit_scale is not None

    @property
    def can_remember(self) -> bool:
        """Whether it can compare a batch with a `CrossBatchMemory`."""
        return self.takes == "embeddings" and getattr(
            self.make(), "takes_references", False
        )

    @property
    def metrics(self) -> list[str]:
        """The metrics to compile the model with."""
        return [] if self.is_pair_loss else ["accuracy"]


LOSSES = {
    "normalized_softmax": TrainedLoss(
        lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True), "logits"
    ),
    "cos_face": TrainedLoss(losses.CosFace, "cosines", 0.3),
    "arc_face": TrainedLoss(losses.ArcFace, "cosines", 0.3),
    "sub_center_arc_face": TrainedLoss(
        losses.SubCenterArcFace, "cosines", 0.3, centers=3
    ),
    "soft_triple": TrainedLoss(
        losses.SoftTriple, "cosines", centers=10, center_temperature=0.1
    ),
    "proxy_nca": TrainedLoss(losses.ProxyNCA, "cosines", 10.0),
    "proxy_nca_plus_plus": TrainedLoss(losses.ProxyNCAPlusPlus, "cosines"),
    "proxy_anchor": TrainedLoss(losses.ProxyAnchor, "cosines"),
    "triplet_semi_hard": TrainedLoss(losses.TripletSemiHard, "embeddings", 10.0),
    "triplet_hard": TrainedLoss(losses.TripletHard, "embeddings", 10.0),
    "n_pairs": TrainedLoss(losses.NPairs, "features", images_per_class=2),
    "lifted_structure": TrainedLoss(losses.LiftedStructure, "embeddings", 3.0),
    "contrastive": TrainedLoss(losses.Contrastive, "embeddings", 10.0),
    "multi_similarity": TrainedLoss(losses.MultiSimilarity, "embeddings", 10.0),
    "circle": TrainedLoss(losses.Circle, "embeddings", 0.3),
    "supervised_contrastive": TrainedLoss(
        losses.SupervisedContrastive, "embeddings", 3.0
    ),
}
"""The losses by what `config.loss` calls them; the first is the paper's."""

_ADDONS_LOSSES = {
    "TripletSemiHardLoss": 10.0,
    "TripletHardLoss": 10.0,
    "LiftedStructLoss": 3.0,
}
"""The losses of TensorFlow Addons that take embeddings, with their `rate_factor`."""


def find_loss(name: str) -> TrainedLoss:
    """Finds one of `LOSSES`, or TensorFlow Addons' own, such as "tfa:TripletHardLoss".

    Addons' losses have its own defaults. Where replicas share a batch, Addons adds up
    their gradients instead of averaging them: divide the learning rate by the number of
    replicas.

    Raises:
        ValueError: if there is no such loss.
        ImportError: if TensorFlow Addons is needed and not installed.
    """
    if name in LOSSES:
        return LOSSES[name]
    if not name.startswith(addons.PREFIX):
        raise ValueError(
            f"--config.loss must be one of {', '.join(LOSSES)}, or, with TensorFlow "
            f"Addons, {' or '.join(addons.PREFIX + one for one in _ADDONS_LOSSES)}; "
            f"got {name!r}."
        )
    addons_losses = addons.import_addons(f"--config.loss={name}").losses
    class_name = name.removeprefix(addons.PREFIX)
    if class_name not in _ADDONS_LOSSES:
        raise ValueError(
            "--config.loss must be a loss of TensorFlow Addons that takes labels and "
            f"embeddings, {addons.PREFIX} and one of {', '.join(_ADDONS_LOSSES)}; got "
            f"{name!r}."
        )
    return TrainedLoss(
        getattr(addons_losses, class_name), "embeddings", _ADDONS_LOSSES[class_name]
    )


def class_layer(config: ml_collections.ConfigDict, num_classes: int) -> layers.Proxies:
    """Makes the layer of class weights that the config's loss needs.

    Returns:
        A `NormalizedSoftmax` or `Proxies`, which draws classes where
        `config.sampled_classes` is below 1.
    """
    loss = find_loss(config.loss)
    options = {}
    if config.sampled_classes < 1:
        options = {"sampled_classes": config.sampled_classes, "seed": config.seed}
    if loss.takes == "logits":
        return layers.NormalizedSoftmax(num_classes, config.temperature, **options)
    regularizer = None
    if loss.center_temperature is not None:
        regularizer = layers.CenterMerging(centers=loss.centers)
    return layers.Proxies(
        num_classes,
        class_weights_regularizer=regularizer,
        centers=loss.centers,
        center_temperature=loss.center_temperature,
        **options,
    )


def loss_input(
    config: ml_collections.ConfigDict, embedder: keras.Model, num_classes: int
) -> keras.KerasTensor:
    """Applies to the embedding model's output the layer that the config's loss needs.

    Returns:
        The output of the model to train: logits, cosines or embeddings.
    """
    takes = find_loss(config.loss).takes
    if takes in ("logits", "cosines"):
        return class_layer(config, num_classes)(embedder.output)
    if takes == "features":
        return embedder.layers[-1].input
    return embedder.output


def batch_shape(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """The (classes, images per class) of a batch, as the config's loss can use them.

    The batch has at most the config's `classes` × `images_per_class` images.
    """
    images = find_loss(config.loss).images_per_class
    if images is None:
        return config.classes, config.images_per_class
    return config.classes * config.images_per_class // images, images
