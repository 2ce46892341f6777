"""Retrieval metrics as a table to read."""

from collections.abc import Mapping
from typing import Any


def format_table(metrics: Mapping[str, Any]) -> str:
    """Lays the metrics out as plain text, recalls in percent.

    Args:
        metrics: what `retrieval_metrics` returns, or the same read back from JSON.

    Returns:
        Lines without a last newline: a heading, the three kinds of search, the size of
        the set.

    Example:
        >>> recalls = {"recall@1": 0.6536, "recall@2": 0.7676}
        >>> annoy = {**recalls, "agreement@1": 1.0, "trees": 50, "search_k": 10000}
        >>> metrics = {"float": recalls, "binary": recalls, "annoy": annoy,
        ...            "images": 5924, "classes": 100}
        >>> print(format_table(metrics))  # doctest: +NORMALIZE_WHITESPACE
                                                                              R@1    R@2
        float                                                               65.36  76.76
        binary                                                              65.36  76.76
        annoy (50 trees, agrees with exact on 100.0 % of nearest neighbours) 65.36 76.76
        5,924 images of 100 classes
    """
    names = [name for name in metrics["float"] if name.startswith("recall@")]
    annoy = metrics["annoy"]
    titles = {
        "float": "float",
        "binary": "binary",
        "annoy": f"annoy ({annoy['trees']} trees, agrees with exact on "
        f"{100 * annoy['agreement@1']:.1f} % of nearest neighbours)",
    }
    rows = [["", *(name.replace("recall", "R") for name in names)]]
    for kind, title in titles.items():
        rows.append([title, *(f"{100 * metrics[kind][name]:.2f}" for name in names)])

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for title, *cells in rows:
        padded = map(str.rjust, cells, widths[1:])
        lines.append("  ".join([title.ljust(widths[0]), *padded]))
    lines.append(f"{metrics['images']:,} images of {metrics['classes']:,} classes")
    return "\n".join(lines)
