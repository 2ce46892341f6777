"""Measures of how well embeddings retrieve: recall, precision, clusters, indexes."""

from keras_dml.evaluation.agreement import agreement
from keras_dml.evaluation.annoy_neighbours import AnnoyNeighbours
from keras_dml.evaluation.binary_codes import binary_codes
from keras_dml.evaluation.embed import embed
from keras_dml.evaluation.format_table import format_table
from keras_dml.evaluation.k_means import k_means
from keras_dml.evaluation.nearest_neighbours import nearest_neighbours
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
    "RetrievalEvaluation",
    "agreement",
    "binary_codes",
    "embed",
    "format_table",
    "k_means",
    "nearest_neighbours",
    "normalized_mutual_information",
    "ranking_metrics",
    "recall_at_k",
    "recall_of_neighbours",
    "retrieval_metrics",
    "without_self",
]
