"""From a model and its test set to its metrics."""

import json
import pathlib

import keras
import ml_collections
import numpy as np

from keras_dml import data
from keras_dml import evaluation
from keras_dml import search
from keras_dml import training
from keras_dml._files import write_json


def measure(
    config: ml_collections.ConfigDict, embedder: keras.Model, test: data.ImageDataset
) -> tuple[np.ndarray, search.Neighbors, dict]:
    """Embeds the test images, indexes them and measures their retrieval.

    Returns:
        (embeddings, index, metrics): (images, dim) float32; an index of the gallery, or
        of all images if there are no queries apart; and the content of `metrics.json`.

    Raises:
        FloatingPointError: if an embedding is infinite or not a number.
    """
    embeddings = evaluation.embed(embedder, test, config.resize)
    if not np.isfinite(embeddings).all():
        raise FloatingPointError(
            "the embeddings of the test images became infinite or not a number."
        )
    if config.nmi_starts:
        print("Measuring; --config.nmi_starts=0 skips k-means, which only NMI needs.")
    queries, query_labels, gallery, gallery_labels = test.query_and_gallery(embeddings)
    index = search.calibrated_neighbors(
        config.index,
        queries if gallery is None else gallery,
        max(config.ks),
        queries=None if gallery is None else queries,
        target=config.index_agreement,
        seed=config.seed,
    )
    metrics = evaluation.retrieval_metrics(
        queries,
        query_labels,
        gallery,
        gallery_labels,
        config.ks,
        index,
        seed=config.seed,
        nmi_starts=config.nmi_starts,
        false_accept_rates=config.verification,
    )
    return embeddings, index, metrics


def measure_untrained(
    config: ml_collections.ConfigDict,
    embedder: keras.Model,
    file: pathlib.Path,
    **datasets: data.ImageDataset | None,
) -> dict[str, dict]:
    """Measures what training starts from, once in a run.

    Args:
        config: the settings.
        embedder: the model before training.
        file: JSON, where the figures are kept, and found by a run that goes on. Of
            several workers the first's counts.
        **datasets: to measure, by what they are called in the logs; None is none.

    Returns:
        What `retrieval_metrics` gives, by name of the data set.

    Raises:
        ValueError: if the file is damaged.
    """
    given = {name: one for name, one in datasets.items() if one is not None}
    if training.from_chief(file.is_file()):
        return training.from_chief(
            _read_untrained(file, given) if training.is_chief() else None
        )
    print("Measuring the model before training:")
    untrained = {
        name: evaluation.retrieval_metrics(
            *evaluation.embed_query_and_gallery(embedder, dataset, config.resize),
            ks=config.ks,
        )
        for name, dataset in given.items()
    }
    if training.is_chief():
        write_json(file, untrained)
    return untrained


def _read_untrained(file, wanted):
    try:
        untrained = json.loads(file.read_text(encoding="utf-8"))
        for name in wanted:
            float(untrained[name]["float"]["recall@1"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} is damaged: {error}. Delete it; the run goes on from its "
            "newest checkpoint all the same."
        ) from None
    return untrained


def describe_gain(untrained: dict, trained: dict) -> str:
    """Says in one sentence what training did to Recall@1, and what helps if it hurt.

    Args:
        untrained: what `retrieval_metrics` gave before.
        trained: what it gave in the end.
    """
    before, after = (100 * one["float"]["recall@1"] for one in (untrained, trained))
    if after >= before:
        return f"Training took R@1 from {before:.2f} to {after:.2f} %."
    return (
        f"Training took R@1 down, from {before:.2f} to {after:.2f} %: the trunk was "
        "better as it came. Try --config.batch_norm=frozen "
        "--config.class_weights=means with a lower --config.learning_rate, and "
        "--config.validation_classes=0.2, which keeps the best weights."
    )


def describe_agreement(
    searched: search.Neighbors | search.Gallery | search.LanceGallery, k: int
) -> str:
    """Says how far a search agrees with exact search, and what each costs.

    Args:
        searched: an index, or a gallery with one.
        k: the number of neighbors that it is asked for.
    """
    if searched.kind == "exact":
        return "The search is exact."
    calibration = searched.calibration
    if calibration is None:
        return (
            f"The {searched.kind} index's agreement with exact search was not measured."
        )
    line = (
        f"The {searched.kind} index agreed with exact search on "
        f"{100 * calibration.agreement:.1f} % of the {calibration.k} nearest, at "
        f"{calibration.ms_per_query:.2g} ms a query; exact search takes "
        f"{calibration.exact_ms_per_query:.2g} ms."
    )
    if calibration.ms_per_query > calibration.exact_ms_per_query:
        line += " Exact search is faster here."
    if k > calibration.k:
        line += f" For {k} the agreement was not measured, and may be lower."
    return line
