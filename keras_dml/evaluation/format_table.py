"""Retrieval metrics as a table to read."""

from collections.abc import Mapping
from typing import Any


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
