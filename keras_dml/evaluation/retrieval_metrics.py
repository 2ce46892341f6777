"""Every retrieval figure of one set of embeddings, and the table that shows them."""

import textwrap
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_pair
from keras_dml._checks import checked_rates
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation.clustering import k_means
from keras_dml.evaluation.clustering import normalized_mutual_information
from keras_dml.evaluation.embed import binary_codes
from keras_dml.evaluation.index_metrics import SearchIndex
from keras_dml.evaluation.index_metrics import check_index
from keras_dml.evaluation.index_metrics import index_metrics
from keras_dml.evaluation.ranking_metrics import ranking_metrics
from keras_dml.evaluation.verification import verification

_TABLE_WIDTH = 80
_IN_EVERY_TABLE = {"float", "binary", "images", "classes", "lone_queries"}


def retrieval_metrics(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    index: SearchIndex | None = None,
    seed: int = 0,
    nmi_starts: int = 0,
    false_accept_rates: Sequence[float] = (),
) -> dict[str, Any]:
    """Measures retrieval by cosine, by binary codes and through an approximate index.

    Recall@K is measured in all three ways; MRR, R-precision and MAP@R, as
    `ranking_metrics` defines them, by exact search only.

    Args:
        queries: (n, dim) float16, bfloat16, float32 or float64.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim), the images to search. None: each query searches all the other
            queries, at least one.
        gallery_labels: (m,); given exactly when `gallery` is.
        ks: the ranks K, distinct and at least 1.
        index: of the gallery's rows in their order, or of the queries' if gallery is
            None; see `keras_dml.search.calibrated_neighbors`. None, or one of kind
            "exact": there is nothing more to measure.
        seed: 0 … 2^31 − 1, of k-means, and of the resamples of `verification`.
        nmi_starts: starts of `k_means` for NMI, the paper's being 10. 0: NMI is not
            measured, as it can take longer than everything else.
        false_accept_rates: distinct, at least 0 and below 1, as for `verification`,
            which some pairs of one class and some of two are needed for. Empty: it is
            not measured.

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
             "verification": {"float": {"true_accept_rate@0.001": 0.43,
                                        "threshold@0.001": 0.58, ...},
                              "binary": {"true_accept_rate@0.001": 0.40,
                                         "threshold@0.001": 160, ...}},
             "images": 5924,
             "classes": 100,
             "lone_queries": 0}

        "images" and "classes" are those of queries and gallery together.

        "index" is there when an approximate one was given, and holds what
        `index_metrics` says; the recalls in it mean little where its agreement is low.

        "clustering" is there when it was asked for: the
        `normalized_mutual_information` of the classes with as many clusters of all
        embeddings, the queries' followed by the gallery's.

        "verification" is there when false accept rates were given, and holds what
        `verification` says by cosine and by Hamming distance.

    Raises:
        ValueError: if an argument is out of its range or does not fit the embeddings.

    Example:
        >>> embeddings = [[1.0, 0.1], [0.9, -0.1], [-0.1, 1.0], [0.1, 0.9]]
        >>> metrics = retrieval_metrics(embeddings, [7, 7, 8, 8], ks=(1,))
        >>> metrics["float"]
        {'recall@1': 1.0, 'mrr': 1.0, 'r_precision': 1.0, 'map@r': 1.0}
        >>> metrics["images"], metrics["classes"], metrics["lone_queries"]
        (4, 2, 0)
    """
    queries = checked_floats(queries, "queries")
    if gallery is not None:
        gallery = checked_floats(gallery, "gallery")
    queries, gallery = checked_pair(queries, gallery)
    classes = pair_classes(queries, query_labels, gallery, gallery_labels)
    ks = checked_ks(ks)
    if index is not None:
        check_index(index)
    nmi_starts = checked_integer(nmi_starts, "nmi_starts", 0)
    rates = checked_rates(false_accept_rates, "false_accept_rates")
    if gallery is None and len(queries) < 2:
        raise ValueError(
            "queries has one row, and so nothing to find for it. Pass a gallery, or "
            "more rows."
        )
    sides = {
        "float": (queries, query_labels, gallery, gallery_labels),
        "binary": (
            binary_codes(queries),
            query_labels,
            None if gallery is None else binary_codes(gallery),
            gallery_labels,
        ),
    }
    verified = {
        kind: verification(*side, false_accept_rates=rates, seed=seed)
        for kind, side in sides.items()
        if rates
    }
    ranked = {kind: ranking_metrics(*side, ks)["all"] for kind, side in sides.items()}
    if gallery is None:
        embeddings, numbers = queries, classes[0]
    else:
        embeddings, numbers = (
            np.concatenate([queries, gallery]),
            np.concatenate(classes),
        )
    num_classes = len(np.unique(numbers))
    metrics = {
        "float": _shares(ranked["float"]),
        "binary": _shares(ranked["binary"]),
        "images": len(numbers),
        "classes": num_classes,
        "lone_queries": ranked["float"]["lone_queries"],
    }
    if index is not None and index.kind != "exact":
        metrics["index"] = index_metrics(
            index, queries, query_labels, gallery, gallery_labels, ks
        )
    if nmi_starts:
        clusters, library = k_means(embeddings, num_classes, nmi_starts, seed)
        metrics["clustering"] = {
            "nmi": normalized_mutual_information(numbers, clusters),
            "clusters": num_classes,
            "starts": nmi_starts,
            "library": library,
        }
    if verified:
        metrics["verification"] = verified
    return metrics


def _shares(metrics):
    counts = ("queries", "lone_queries")
    return {name: value for name, value in metrics.items() if name not in counts}


def format_table(metrics: Mapping[str, Any]) -> str:
    """Formats the metrics as plain text, shares in percent.

    MRR is the mean reciprocal rank, RP R-precision. A figure that was not measured
    through an index has a –. How far the index agrees with exact search stands right
    below the table, and what each costs. A second table, if it was measured, has the
    verification: true accepts at false accept rates (FAR), thresholds with their
    intervals, and how many of the queries of unknown classes are rejected.

    Args:
        metrics: what `retrieval_metrics` returns, or the same read back from JSON. It
            may hold another such dictionary under "untrained", of the model before
            training, for the rows "float before" and "binary before".

    Returns:
        Lines of at most 80 columns, for up to six K, without a last newline: a heading,
        the kinds of search, agreement and costs of the index, NMI and verification if
        they were measured, the size of the set and how many queries had nothing to
        find.

    Raises:
        ValueError: if metrics are not those.

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
        float   65.36  76.76  74.00  35.00  25.00
        binary  65.36  76.76  74.00  35.00  25.00
        annoy   65.36  76.76      –      –      –
        annoy agrees with exact search on 100.0 % of the nearest and 99.5 % of the 2
        nearest
        annoy with trees 50 takes 0.900 ms a query and exact search 0.200 ms, so exact
        search is the cheaper here
        5,924 images of 100 classes
    """
    if not isinstance(metrics, Mapping) or not metrics.keys() >= _IN_EVERY_TABLE:
        raise ValueError(
            "metrics must be what retrieval_metrics returns, with "
            f"{', '.join(sorted(_IN_EVERY_TABLE))}; got {metrics!r}."
        )
    names = list(metrics["float"])
    rows = [["", *map(_heading, names)]]
    kinds = {
        metrics[kind].get("kind", kind): metrics[kind]
        for kind in ("float", "binary", "index")
        if kind in metrics
    }
    for kind in ("float", "binary"):
        if "untrained" in metrics:
            kinds[f"{kind} before"] = metrics["untrained"][kind]
    for kind, found in kinds.items():
        cells = [f"{100 * found[n]:.2f}" if n in found else "–" for n in names]
        rows.append([kind, *cells])
    lines = _aligned(rows)
    sentences = []
    if "index" in metrics:
        sentences += [_agreement_line(metrics["index"]), _cost_line(metrics["index"])]
    if "clustering" in metrics:
        found = metrics["clustering"]
        sentences.append(
            f"NMI {100 * found['nmi']:.2f} ({found['clusters']:,} clusters by "
            f"{found['library']}, best of {found['starts']})"
        )
    size = f"{metrics['images']:,} images of {metrics['classes']:,} classes"
    if metrics["lone_queries"]:
        size += f"; {metrics['lone_queries']:,} queries have no other image, and miss"
    sentences.append(size)
    lines += map(_wrapped, sentences)
    if "verification" in metrics:
        lines += ["", *_aligned(_verification_rows(metrics))]
        lines += map(_wrapped, _verification_lines(metrics))
    return "\n".join(lines)


def _aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row.ljust(widths[0]), *map(str.rjust, cells, widths[1:])])
        for row, *cells in rows
    ]


def _verification_rows(metrics):
    found = metrics["verification"]
    headings = ["", "FAR", "TAR", "threshold", "95 % interval", "rejected"]
    rows = [headings]
    for kind, figures in found.items():
        for name in figures:
            figure, _, rate = name.partition("@")
            if figure != "true_accept_rate":
                continue
            threshold, low, high = (
                f"{figures[f'{bound}@{rate}']:{'.4f' if kind == 'float' else 'd'}}"
                for bound in ("threshold", "threshold_low", "threshold_high")
            )
            rejected = figures.get(f"unknown_rejected@{rate}")
            cells = [f"{100 * float(rate):g}", f"{100 * figures[name]:.2f}"]
            cells += [threshold, f"{low} to {high}"]
            cells += ["–" if rejected is None else f"{100 * rejected:.2f}"]
            rows.append([kind, *cells])
    if not found["float"]["unknown_queries"]:
        rows = [cells[:-1] for cells in rows]
    return rows


def _verification_lines(metrics):
    by_cosine, by_code = (metrics["verification"][k] for k in ("float", "binary"))
    lines = [
        f"{name} {100 * by_cosine[key]:.2f} by float and {100 * by_code[key]:.2f} by "
        "binary"
        for name, key in (("EER", "equal_error_rate"), ("AUC", "roc_auc"))
    ]
    pairs = (
        f"{by_cosine['positive_pairs']:,} pairs of one class and "
        f"{by_cosine['negative_pairs']:,} of two"
    )
    if by_cosine["unknown_queries"]:
        pairs += f"; {by_cosine['unknown_queries']:,} queries of unknown classes"
    return ["; ".join(lines), pairs]


def _wrapped(line):
    # No line breaks between a number and its %.
    joined = line.replace(" %", "\N{NO-BREAK SPACE}%")
    filled = textwrap.fill(joined, _TABLE_WIDTH, break_on_hyphens=False)
    return filled.replace("\N{NO-BREAK SPACE}", " ")


def _heading(name):
    return {"mrr": "MRR", "r_precision": "RP", "map@r": "MAP@R"}.get(
        name, name.replace("recall", "R")
    )


def _agreement_line(index):
    shares = []
    for name, share in index.items():
        if name.startswith("agreement@"):
            k = int(name.removeprefix("agreement@"))
            nearest = f"the {k:,} nearest" if k > 1 else "the nearest"
            shares.append(f"{100 * share:.1f} % of {nearest}")
    return f"{_index_name(index)} agrees with exact search on {' and '.join(shares)}"


def _cost_line(index):
    settings = ", ".join(f"{name} {v:,}" for name, v in index["parameters"].items())
    own, exact = index["ms_per_query"], index["exact_ms_per_query"]
    line = f"{_index_name(index)}{' with ' if settings else ''}{settings} takes "
    line += f"{own:.3f} ms a query and exact search {exact:.3f} ms"
    if exact < own:
        line += ", so exact search is the cheaper here"
    calibration = index["calibration"]
    if calibration and not calibration["reached"]:
        line += f"; the target of {100 * calibration['target']:g} % was not reached"
    return line


def _index_name(index):
    codes = " of binary codes" if index["metric"] == "hamming" else ""
    return index["kind"] + codes
