"""Cells of the studies' tables, and their CSV files."""

import csv
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_dml._files import atomic_file


def mean_and_spread(figures: npt.ArrayLike) -> str:
    """The mean ± the standard deviation as text, with one decimal.

    The deviation is that of the sample, so with n - 1. For a single figure it is left
    out. No figures are "failed".
    """
    figures = np.asarray(figures)
    if not len(figures):
        return "failed"
    mean = f"{figures.mean():.1f}"
    return mean if len(figures) < 2 else f"{mean} ± {figures.std(ddof=1):.1f}"


def with_seeds(label: str, finished: int, seeds: int) -> str:
    """A row's label, with how many of its seeds finished if it isn't all."""
    return label if finished == seeds else f"{label} ({finished} of {seeds} seeds)"


def write_csv(file: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows as CSV, with a header.

    Args:
        file: the path of the file.
        rows: one at least. The columns are those of all, and empty where a row has
            none.
    """
    with (
        atomic_file(file) as unfinished,
        open(unfinished, "w", newline="", encoding="utf-8") as stream,
    ):
        columns = {column: None for row in rows for column in row}
        writer = csv.DictWriter(stream, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a run as columns: {"float": {"mrr": 1}} → {"float mrr": 1}."""
    columns: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            columns |= {f"{name} {inner}": number for inner, number in value.items()}
        else:
            columns[name] = value
    return columns
