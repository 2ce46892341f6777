"""From a model and its test set to the figures."""

import keras
import ml_collections
import numpy as np

from keras_dml import evaluation
from keras_dml.data import ImageDataset


def measure(
    config: ml_collections.ConfigDict, embedder: keras.Model, test: ImageDataset
) -> tuple[np.ndarray, evaluation.Neighbours, dict]:
    """Embeds the test images, indexes them and measures their retrieval.

    Returns:
        (embeddings, index, metrics): (images, dim) float32; an index of them, or of the
        gallery's where there are queries; and the content of `metrics.json`.

    Raises:
        FloatingPointError: if an embedding is infinite or not a number.
    """
    embeddings = evaluation.embed(embedder, test, config.resize)
    if not np.isfinite(embeddings).all():
        raise FloatingPointError(
            "the embeddings of the test images became infinite or not a number."
        )
    if config.nmi_starts:
        print(
            f"Measuring; NMI clusters {len(test):,} embeddings {config.nmi_starts} "
            "times, which --config.nmi_starts=0 leaves out."
        )
    is_query = test.is_query
    index = evaluation.calibrated_neighbours(
        config.index,
        embeddings if is_query is None else embeddings[~is_query],
        max(config.ks),
        queries=None if is_query is None else embeddings[is_query],
        target=config.index_agreement,
        seed=config.seed,
    )
    metrics = evaluation.retrieval_metrics(
        embeddings,
        test.labels,
        test.is_query,
        config.ks,
        index,
        seed=config.seed,
        nmi_starts=config.nmi_starts,
    )
    return embeddings, index, metrics
