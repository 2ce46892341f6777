"""Retrieval metrics as a table to read."""

from collections.abc import Mapping
from typing import Any


def format_table(metrics: Mapping[str, Any]) -> str:
    """Lays the metrics out as plain text, shares in percent.

    MRR is the mean reciprocal rank, RP R-precision. A figure that a search was not
    measured by has a –.

    Args:
        metrics: what `retrieval_metrics` returns, or the same read back from JSON.

    Returns:
        Lines without a last newline: a heading, the three kinds of search, NMI if
        it was measured, the size of the set and what could not be found.

    Example:
        >>> recalls = {"recall@1": 0.6536, "recall@2": 0.7676}
        >>> exact = {**recalls, "mrr": 0.74, "r_precision": 0.35, "map@r": 0.25}
        >>> annoy = {**recalls, "agreement@1": 1.0, "trees": 50, "search_k": 10000}
        >>> metrics = {"float": exact, "binary": exact, "annoy": annoy,
        ...            "images": 5924, "classes": 100, "lone_queries": 0}
        >>> print(format_table(metrics))  # doctest: +NORMALIZE_WHITESPACE
                                                       R@1    R@2    MRR     RP  MAP@R
        float                                        65.36  76.76  74.00  35.00  25.00
        binary                                       65.36  76.76  74.00  35.00  25.00
        annoy (50 trees, agrees with exact on 100.0 % of nearest neighbours)
                                                     65.36  76.76      –      –      –
        5,924 images of 100 classes
    """
    names = list(metrics["float"])
    annoy = metrics["annoy"]
    titles = {
        "float": "float",
        "binary": "binary",
        "annoy": f"annoy ({annoy['trees']} trees, agrees with exact on "
        f"{100 * annoy['agreement@1']:.1f} % of nearest neighbours)",
    }
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


def _heading(name):
    return {"mrr": "MRR", "r_precision": "RP", "map@r": "MAP@R"}.get(
        name, name.replace("recall", "R")
    )
