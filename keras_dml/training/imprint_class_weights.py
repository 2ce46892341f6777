"""Class weights that start as the mean embedding of each class."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_dml._checks import checked_floats
from keras_dml._ops import ops
from keras_dml._similarity import unit_rows
from keras_dml.evaluation import embed_query_and_gallery
from keras_dml.layers import Proxies


def imprint_class_weights(
    layer: Proxies,
    embedder: keras.Model,
    dataset: Any,
    resize: int | None = None,
    batch_size: int = 100,
    verbose: str | int = "auto",
) -> None:
    """Sets the class weights of a layer to the mean embedding of each class.

    Random class weights pull a pretrained trunk's good features apart before they have
    learned anything; the means of the classes classify them from the first step. Every
    image is embedded once as it is tested, not augmented, and scaled to length 1; so
    are the means. Of a layer with several centers each gets the mean and a tenth of
    what it was before, which tells them apart.

    Call it after the model is built and before `fit`. It works on every backend, for
    layers that draw classes and under distribution strategies too.

    Args:
        layer: the `NormalizedSoftmax` or `Proxies` of the model, built.
        embedder: the model from images to embeddings that the layer stands on.
        dataset: the training set, of any kind that `keras_dml.evaluation.embed` takes,
            with the labels that the model is trained with.
        resize: as in `embed`.
        batch_size: as in `embed`.
        verbose: Keras's progress bar: 0 for none.

    Raises:
        ValueError: if the layer is no such layer, not built, or of another width, a
            label is not from 0 to its `num_classes` - 1, a class has no images, an
            embedding is infinite or NaN, or the mean of a class is zero.

    Example:
        >>> layer = keras_dml.layers.NormalizedSoftmax(4)
        >>> model = keras.Model(embedder.input, layer(embedder.output))
        >>> imprint_class_weights(layer, embedder, train, verbose=0)

    Reference:
        [Qi et al., 2018](https://arxiv.org/abs/1712.07136), equations 4 and 5.
    """
    if not isinstance(layer, Proxies) or not layer.built:
        raise ValueError(
            "layer must be a NormalizedSoftmax or Proxies of a model, built; got "
            f"{layer!r}."
        )
    embeddings, labels, gallery, gallery_labels = embed_query_and_gallery(
        embedder, dataset, resize, batch_size, verbose
    )
    if gallery is not None:
        embeddings = np.concatenate([embeddings, gallery])
        labels = np.concatenate([labels, gallery_labels])
    weights = ops.convert_to_numpy(layer.class_weights)
    means = _class_means(embeddings, labels, layer.num_classes)
    if means.shape[1] != weights.shape[1]:
        raise ValueError(
            f"layer has class weights of {weights.shape[1]} numbers, and embedder "
            f"gives {means.shape[1]}. Pass the embedding model below the layer."
        )
    if layer.centers > 1:
        means = np.repeat(means, layer.centers, axis=0) + weights / 10
    layer.class_weights.assign(means.astype(weights.dtype))


def _class_means(embeddings, labels, num_classes):
    """(num_classes, dim): the means of unit vectors, scaled to length 1."""
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels of the data set must be integers from 0 to {num_classes - 1}, the "
            "classes of the layer. Pass the data set that the model is trained on."
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if missing.size:
        raise ValueError(
            f"the data set has no images of class {missing[0]}, one of the "
            f"{num_classes} of the layer."
        )
    embeddings = checked_floats(embeddings, "embeddings of the data set")
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(num_classes))
    means = unit_rows(np.add.reduceat(unit_rows(embeddings)[order], starts, axis=0))
    zero = np.flatnonzero(~means.any(axis=1))
    if zero.size:
        raise ValueError(
            f"the mean embedding of class {zero[0]} is zero, which has no direction to "
            "start from. Look at the images of that class, or leave the class weights "
            "random."
        )
    return means
