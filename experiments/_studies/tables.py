"""Several figures in one cell of a table."""

import csv
import os
import pathlib
import tempfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def mean_and_spread(figures: npt.ArrayLike) -> str:
    """The mean ± the standard deviation, with one digit after the point.

    The deviation is that of the sample, so with n - 1; a single figure has none.
    """
    figures = np.asarray(figures)
    mean = f"{figures.mean():.1f}"
    return mean if len(figures) < 2 else f"{mean} ± {figures.std(ddof=1):.1f}"


def write_csv(file: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows under a temporary name and renames it, so it is whole or absent.

    Args:
        file: where to.
        rows: one at least, with the same columns each.
    """
    handle, unfinished = tempfile.mkstemp(suffix=".unfinished", dir=file.parent)
    with os.fdopen(handle, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    os.chmod(unfinished, 0o644)
    os.replace(unfinished, file)


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run as columns: {"float": {"mrr": 1}} as {"float mrr": 1}."""
    columns = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            columns |= {f"{name} {inner}": number for inner, number in value.items()}
        else:
            columns[name] = value
    return columns
