"""A page about a training run: the images it retrieves, and its learning curves."""

import html
import math
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_floats
from keras_dml._files import atomic_file
from keras_dml._ops import import_extra
from keras_dml.data import ImageDataset
from keras_dml.data import preprocess_image
from keras_dml.evaluation import nearest_neighbors

_QUERIES = 12
_NEIGHBORS = 5
_THUMBNAIL = 96  # pixels
_RIGHT = "#1a9641"  # green
_WRONG = "#d7191c"  # red


def write_report(
    folder: str | os.PathLike,
    title: str,
    embeddings: np.ndarray,
    dataset: ImageDataset,
    history: Mapping[str, Sequence[float]],
    table: str,
    seed: int = 0,
    untrained: Mapping[str, float] | None = None,
) -> None:
    """Writes `retrieval.png`, `curves.png` and `index.html`, which shows both.

    `retrieval.png` shows up to 12 queries, each beside its 5 nearest images; the query
    itself is left out. `curves.png` shows the loss and Recall@K by epoch.

    Args:
        folder: a folder, which is created if it does not exist.
        title: heading of the page.
        embeddings: (images, dim) floats, in the order of the data set.
        dataset: the test images.
        history: one number for each epoch under "loss" and under each "..._recall@K";
            NaN where nothing was measured.
        untrained: Recall@K before training, under the same names: where the curves
            start. None: not measured.
        table: the Recall@K table, as text.
        seed: an integer of at least 0, by which the queries are drawn.

    Raises:
        ValueError: if title is no text, embeddings are not one row an image, or history
            has no "loss".
        ImportError: if matplotlib is not installed.

    Example:
        >>> embeddings = keras_dml.evaluation.embed(embedder, test, verbose=0)
        >>> history = {"loss": [2.1, 1.4], "test_recall@1": [0.3, 0.5]}
        >>> write_report("report", "A run", embeddings, test, history, "R@1 50.0")
    """
    if not isinstance(title, str):
        raise ValueError(f"title must be text; got {title!r}.")
    embeddings = checked_floats(embeddings, "embeddings")
    if len(embeddings) != len(dataset):
        raise ValueError(
            f"embeddings must have one row for each of the {len(dataset)} images; got "
            f"{len(embeddings)}. Pass the embeddings of this data set."
        )
    if "loss" not in history:
        raise ValueError(
            f"history must have the loss of each epoch under 'loss'; got "
            f"{sorted(history)}. Pass model.fit(…).history."
        )
    figures = {
        "retrieval.png": _retrieval_figure(embeddings, dataset, seed),
        "curves.png": _curves_figure(history, untrained or {}),
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        with atomic_file(folder / name) as unfinished:
            figure.savefig(unfinished, dpi=100)
    with atomic_file(folder / "index.html") as unfinished:
        unfinished.write_text(_page(title, table), encoding="utf-8")


def _new_figure(**options):
    figure = import_extra("matplotlib.figure", "the report", "experiments")
    return figure.Figure(**options)


def _retrieval_figure(embeddings, dataset, seed):
    rows = np.arange(len(dataset))
    queries, _, gallery, _ = dataset.query_and_gallery(rows)
    if gallery is None:
        gallery = rows
    rng = np.random.default_rng(seed)
    queries = rng.permutation(queries)[:_QUERIES]
    # One more than is shown, as a query may find itself.
    k = min(_NEIGHBORS + 1, len(gallery))
    ids, similarities = nearest_neighbors(embeddings[queries], embeddings[gallery], k)
    found = gallery[ids]
    figure = _new_figure(figsize=(1.5 * (_NEIGHBORS + 1), 1.6 * len(queries)))
    axes = figure.subplots(len(queries), _NEIGHBORS + 1, squeeze=False)
    for row, query in enumerate(queries):
        _show(axes[row, 0], dataset, query, "black", "query")
        others = np.flatnonzero(found[row] != query)[:_NEIGHBORS]
        for column in range(_NEIGHBORS):
            axis = axes[row, column + 1]
            if column >= len(others):
                axis.set_axis_off()
                continue
            neighbor = found[row, others[column]]
            is_right = dataset.labels[neighbor] == dataset.labels[query]
            color = _RIGHT if is_right else _WRONG
            similarity = similarities[row, others[column]]
            _show(axis, dataset, neighbor, color, f"{similarity:.2f}")
    figure.tight_layout()
    return figure


def _show(axis, dataset, row, color, caption):
    encoded = tf.io.read_file(dataset.paths[row])
    axis.imshow(preprocess_image(encoded, _THUMBNAIL, _THUMBNAIL))
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=color, linewidth=4)
    name = dataset.class_names[dataset.labels[row]]
    name = name if len(name) <= 22 else f"…{name[-21:]}"
    # Or matplotlib would typeset a class name that holds dollar signs as a formula.
    axis.set_title(f"{name}\n{caption}", fontsize=6, parse_math=False)


def _curves_figure(history, untrained):
    recalls = {name: values for name, values in history.items() if "recall@" in name}
    figure = _new_figure(figsize=(10, 4), layout="constrained")
    loss_axis, recall_axis = figure.subplots(1, 2)
    _curve(loss_axis, "loss", history["loss"])
    loss_axis.set(title="Training loss", xlabel="epoch")
    for name, values in recalls.items():
        start = untrained.get(name, math.nan)
        shares = 100 * np.array([start, *values])
        _curve(recall_axis, name.replace("_recall", " R"), shares, first_epoch=0)
    recall_axis.set(title="Recall@K, %", xlabel="epoch")
    if recalls:
        recall_axis.legend()
    return figure


def _curve(axis, name, values, first_epoch=1):
    values = np.asarray(values, np.float64)
    epochs = first_epoch + np.arange(len(values))
    measured = np.isfinite(values)
    axis.plot(epochs[measured], values[measured], marker=".", label=name)
    axis.grid(alpha=0.3)


def _page(title, table):
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{html.escape(title)}</title>
<style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
pre {{ background: #f4f4f4; padding: 1em; overflow-x: auto; }}
img {{ max-width: 100%; }}
</style>
<h1>{html.escape(title)}</h1>
<h2>Retrieval on the test classes, %</h2>
<pre>{html.escape(table)}</pre>
<h2>Learning curves</h2>
<img src="curves.png" alt="Training loss and Recall@K by epoch">
<h2>Retrieval</h2>
<p>Each row is a query and its nearest images, with their cosine similarity. Green is
of the query's class, red is not.</p>
<img src="retrieval.png" alt="Queries and their nearest images">
</html>
"""
