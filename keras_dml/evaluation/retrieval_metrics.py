"""Every retrieval figure of one set of embeddings."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml.evaluation._labels import checked_labels
from keras_dml.evaluation.clustering import k_means
from keras_dml.evaluation.clustering import normalized_mutual_information
from keras_dml.evaluation.embed import binary_codes
from keras_dml.evaluation.index_metrics import SearchIndex
from keras_dml.evaluation.index_metrics import index_metrics
from keras_dml.evaluation.ranking_metrics import ranking_metrics


def retrieval_metrics(
    embeddings: npt.ArrayLike,
    labels: npt.ArrayLike,
    is_query: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    index: SearchIndex | None = None,
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
            `calibrated_neighbors`. None, or an `ExactNeighbors`: there is nothing
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


def format_table(metrics: Mapping[str, Any]) -> str:
    """Lays the metrics out as plain text, shares in percent.

    MRR is the mean reciprocal rank, RP R-precision. A figure that a search was not
    measured by has a –. What went through an approximate index says how far it agrees
    with exact search, and what each costs.

    Args:
        metrics: what `retrieval_metrics` returns, or the same read back from JSON.

    Returns:
        Lines without a last newline: a heading, the kinds of search, what the index
        costs, NMI if it was measured, the size of the set and what could not be found.

    Example:
        >>> recalls = {"recall@1": 0.6536, "recall@2": 0.7676}
        >>> exact = {**recalls, "mrr": 0.74, "r_precision": 0.35, "map@r": 0.25}
        >>> index = {**recalls, "kind": "annoy", "metric": "cosine",
        ...          "parameters": {"trees": 50}, "calibration": None,
        ...          "agreement@1": 1.0, "agreement@2": 0.995,
        ...          "ms_per_query": 0.9, "exact_ms_per_query": 0.2}
        >>> metrics = {"float": exact, "binary": exact, "index": index,
        ...            "images": 5924, "classes": 100, "lone_queries": 0}
        >>> print(format_table(metrics))  # doctest: +NORMALIZE_WHITESPACE
                                                       R@1    R@2    MRR     RP  MAP@R
        float                                        65.36  76.76  74.00  35.00  25.00
        binary                                       65.36  76.76  74.00  35.00  25.00
        annoy (agrees with exact on 100.0 % of the nearest, 99.5 % of the 2 nearest)
                                                     65.36  76.76      –      –      –
        annoy with trees 50: 0.900 ms a query; exact search takes 0.200 ms, so it is
        the cheaper here
        5,924 images of 100 classes
    """
    names = list(metrics["float"])
    titles = {"float": "float", "binary": "binary"}
    if "index" in metrics:
        titles["index"] = _index_title(metrics["index"])
    rows = [["", *(_heading(name) for name in names)]]
    for kind, title in titles.items():
        found = metrics[kind]
        cells = (f"{100 * found[name]:.2f}" if name in found else "–" for name in names)
        rows.append([title, *cells])

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for title, *cells in rows:
        padded = map(str.rjust, cells, widths[1:])
        lines.append("  ".join([title.ljust(widths[0]), *padded]))
    if "index" in metrics:
        lines.append(_index_line(metrics["index"]))
    if "clustering" in metrics:
        found = metrics["clustering"]
        lines.append(
            f"NMI {100 * found['nmi']:.2f} ({found['clusters']:,} clusters by "
            f"{found['library']}, best of {found['starts']})"
        )
    size = f"{metrics['images']:,} images of {metrics['classes']:,} classes"
    if metrics["lone_queries"]:
        size += f"; {metrics['lone_queries']:,} queries have no other image, and miss"
    lines.append(size)
    return "\n".join(lines)


def _agreements(found):
    return {
        int(name.removeprefix("agreement@")): f"{100 * share:.1f} %"
        for name, share in found.items()
        if name.startswith("agreement@")
    }


def _index_title(found):
    shares = [
        f"{share} of the {k} nearest" if k > 1 else f"{share} of the nearest"
        for k, share in _agreements(found).items()
    ]
    return f"{_index_name(found)} (agrees with exact on {', '.join(shares)})"


def _index_name(found):
    return found["kind"] + (", binary" if found["metric"] == "hamming" else "")


def _index_line(found):
    settings = ", ".join(f"{k} {v:,}" for k, v in found["parameters"].items())
    own, exact = found["ms_per_query"], found["exact_ms_per_query"]
    line = (
        f"{_index_name(found)} with {settings}: {own:.3f} ms a query; exact search "
        f"takes {exact:.3f} ms{', so it is the cheaper here' if exact < own else ''}"
    )
    calibration = found["calibration"]
    if calibration and not calibration["reached"]:
        line += f"; the target of {100 * calibration['target']:g} % was not reached"
    return line


def _heading(name):
    return {"mrr": "MRR", "r_precision": "RP", "map@r": "MAP@R"}.get(
        name, name.replace("recall", "R")
    )
