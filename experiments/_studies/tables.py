"""Several figures in one cell of a table."""

import csv
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_dml._files import atomic_file


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
    with (
        atomic_file(file) as unfinished,
        open(unfinished, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run as columns: {"float": {"mrr": 1}} as {"float mrr": 1}."""
    columns = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            columns |= {f"{name} {inner}": number for inner, number in value.items()}
        else:
            columns[name] = value
    return columns
