"""Measures of how well embeddings retrieve: recall, precision, clusters, indexes."""

from keras_dml.evaluation.agreement import agreement
from keras_dml.evaluation.annoy_neighbours import AnnoyNeighbours
from keras_dml.evaluation.binary_codes import binary_codes
from keras_dml.evaluation.calibrated_neighbours import calibrated_neighbours
from keras_dml.evaluation.calibration import Calibration
from keras_dml.evaluation.embed import embed
from keras_dml.evaluation.exact_neighbours import ExactNeighbours
from keras_dml.evaluation.format_table import format_table
from keras_dml.evaluation.hnsw_neighbours import HNSWNeighbours
from keras_dml.evaluation.index_metrics import index_metrics
from keras_dml.evaluation.k_means import k_means
from keras_dml.evaluation.load_neighbours import load_neighbours
from keras_dml.evaluation.nearest_neighbours import nearest_neighbours
from keras_dml.evaluation.neighbours import Neighbours
from keras_dml.evaluation.normalized_mutual_information import (
    normalized_mutual_information,
)
from keras_dml.evaluation.ranking_metrics import ranking_metrics
from keras_dml.evaluation.recall import recall_at_k
from keras_dml.evaluation.recall_of_neighbours import recall_of_neighbours
from keras_dml.evaluation.recall_of_neighbours import without_self
from keras_dml.evaluation.retrieval_evaluation import RetrievalEvaluation
from keras_dml.evaluation.retrieval_metrics import retrieval_metrics

__all__ = [
    "AnnoyNeighbours",
    "Calibration",
    "ExactNeighbours",
    "HNSWNeighbours",
    "Neighbours",
    "RetrievalEvaluation",
    "agreement",
    "binary_codes",
    "calibrated_neighbours",
    "embed",
    "format_table",
    "index_metrics",
    "k_means",
    "load_neighbours",
    "nearest_neighbours",
    "normalized_mutual_information",
    "ranking_metrics",
    "recall_at_k",
    "recall_of_neighbours",
    "retrieval_metrics",
    "without_self",
]
