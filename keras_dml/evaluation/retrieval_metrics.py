"""Every retrieval figure of one set of embeddings."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.binary_codes import binary_codes
from keras_dml.evaluation.checked_embeddings import checked_floats
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.checked_ks import checked_ks
from keras_dml.evaluation.class_numbers import checked_labels
from keras_dml.evaluation.index_metrics import index_metrics
from keras_dml.evaluation.k_means import k_means
from keras_dml.evaluation.neighbours import Neighbours
from keras_dml.evaluation.normalized_mutual_information import (
    normalized_mutual_information,
)
from keras_dml.evaluation.ranking_metrics import ranking_metrics


def retrieval_metrics(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    is_query: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    index: Neighbours | None = None,
    seed: int = 0,
    nmi_starts: int = 0,
) -> dict:
    """Measures retrieval by cosine, by binary codes and through an approximate index.

    Recall@K is measured in all three ways, MRR, R-precision and MAP@R exactly alone, as
    `ranking_metrics` defines them.

    Args:
        embeddings: (n, dim) float16, float32 or float64, n at least 2.
        labels: (n,) integers of any size, or strings.
        is_query: (n,) booleans: true for the queries, false for the gallery they
            search. None: every image searches all the others.
        ks: the ranks K, distinct and at least 1.
        index: of the gallery's rows in their order, or of all without `is_query`; see
            `calibrated_neighbours`. None, or an `ExactNeighbours`: there is nothing
            more to measure.
        seed: 0 … 2^31 − 1, of k-means.
        nmi_starts: starts of `k_means` for NMI, the paper's being 10. 0: NMI is not
            measured, as it can take longer than everything else.

    Returns:
        A dictionary of Python numbers that `json.dumps` takes, shares in
        0 … 1:

            {"float": {"recall@1": 0.65, ..., "mrr": 0.7, "r_precision": 0.35,
                       "map@r": 0.25},
             "binary": {"recall@1": 0.63, ..., "mrr": 0.68, "r_precision": 0.33,
                        "map@r": 0.23},
             "index": {"kind": "annoy", "recall@1": 0.64, ..., "agreement@1": 0.995,
                       "ms_per_query": 0.9, "exact_ms_per_query": 0.2, ...},
             "clustering": {"nmi": 0.68, "clusters": 100, "starts": 10,
                            "library": "faiss 1.15.1"},
             "images": 5924,
             "classes": 100,
             "lone_queries": 0}

        "index" is there when an approximate one was given, and holds what
        `index_metrics` says; the recalls in it mean little where its agreement is low.

        "clustering" is there when it was asked for: the
        `normalized_mutual_information` of the classes with as many clusters of all
        embeddings, those of queries and gallery together.

    Raises:
        ValueError: if an argument is out of its range or does not fit the embeddings.
    """
    embeddings = checked_floats(embeddings, "embeddings")
    labels = checked_labels(labels, "labels", len(embeddings))
    ks = checked_ks(ks)
    nmi_starts = checked_integer(nmi_starts, "nmi_starts", 0)
    if len(embeddings) < 2:
        raise ValueError(
            "embeddings must have at least 2 rows, one to search for the other; got "
            f"shape {embeddings.shape}."
        )

    if is_query is None:
        queries, query_labels = embeddings, labels
        gallery, gallery_labels = None, None
    else:
        is_query = _checked_is_query(is_query, len(embeddings))
        queries, query_labels = embeddings[is_query], labels[is_query]
        gallery, gallery_labels = embeddings[~is_query], labels[~is_query]

    by_cosine = ranking_metrics(queries, query_labels, gallery, gallery_labels, ks)
    by_code = ranking_metrics(
        binary_codes(queries),
        query_labels,
        None if gallery is None else binary_codes(gallery),
        gallery_labels,
        ks,
    )

    classes = len(np.unique(labels))
    metrics = {
        "float": _shares(by_cosine["all"]),
        "binary": _shares(by_code["all"]),
        "images": len(embeddings),
        "classes": classes,
        "lone_queries": by_cosine["all"]["lone_queries"],
    }
    if index is not None and index.kind != "exact":
        metrics["index"] = index_metrics(
            index, queries, query_labels, gallery, gallery_labels, ks
        )
    if nmi_starts:
        clusters, library = k_means(embeddings, classes, nmi_starts, seed)
        metrics["clustering"] = {
            "nmi": normalized_mutual_information(labels, clusters),
            "clusters": classes,
            "starts": nmi_starts,
            "library": library,
        }
    return metrics


def _shares(metrics):
    counts = ("queries", "lone_queries")
    return {name: value for name, value in metrics.items() if name not in counts}


def _checked_is_query(is_query, rows):
    is_query = np.asarray(is_query)
    if is_query.shape != (rows,) or is_query.dtype != bool:
        raise ValueError(
            f"is_query must be booleans of shape ({rows},), one an embedding; got "
            f"{is_query.dtype} of shape {is_query.shape}. Convert with `.astype(bool)`."
        )
    if is_query.all() or not is_query.any():
        raise ValueError(
            f"is_query marks {is_query.sum()} of {rows} images as queries; there must "
            "be queries and a gallery. Pass None for every image to search the others."
        )
    return is_query
