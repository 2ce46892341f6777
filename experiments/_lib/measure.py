"""From a model and its test set to the figures."""

import keras
import ml_collections
import numpy as np

from keras_dml import evaluation
from keras_dml import search
from keras_dml.data import ImageDataset
from keras_dml.search import Neighbors


def measure(
    config: ml_collections.ConfigDict, embedder: keras.Model, test: ImageDataset
) -> tuple[np.ndarray, search.Neighbors, dict]:
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
    index = search.calibrated_neighbors(
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


def describe_agreement(index: Neighbors, k: int) -> str:
    """Says how far an index agrees with exact search, and what each costs.

    Args:
        index: the index.
        k: how many neighbors it is asked for.
    """
    if index.kind == "exact":
        return "The search is exact."
    found = index.calibration
    if found is None:
        return f"How far the {index.kind} index agrees with exact search is not known."
    line = (
        f"The {index.kind} index agreed with exact search on "
        f"{100 * found.agreement:.1f} % of the {found.k} nearest, at "
        f"{found.ms_per_query:.2g} ms a query; exact search takes "
        f"{found.exact_ms_per_query:.2g} ms."
    )
    if found.ms_per_query > found.exact_ms_per_query:
        line += " An index of kind exact is the faster way."
    if k > found.k:
        line += f" For {k} the agreement was not measured, and may be less."
    return line
