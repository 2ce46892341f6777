"""From a model and its test set to the figures."""

import keras
import ml_collections
import numpy as np

from keras_dml import evaluation
from keras_dml.data import ImageDataset


def measure(
    config: ml_collections.ConfigDict, embedder: keras.Model, test: ImageDataset
) -> tuple[np.ndarray, dict]:
    """Embeds the test images and measures their retrieval.

    Returns:
        (embeddings, metrics): (images, dim) float32, and the content of
        `metrics.json`.
    """
    embeddings = evaluation.embed(embedder, test, config.resize)
    if config.nmi_starts:
        print(
            f"Measuring; NMI clusters {len(test):,} embeddings {config.nmi_starts} "
            "times, which --config.nmi_starts=0 leaves out."
        )
    metrics = evaluation.retrieval_metrics(
        embeddings,
        test.labels,
        test.is_query,
        config.ks,
        trees=config.annoy_trees,
        seed=config.seed,
        nmi_starts=config.nmi_starts,
    )
    return embeddings, metrics
