"""Measures embeddings: Recall@K, ranking metrics, clusters, and what an index finds.

Functions take arrays and return Python numbers. Two conventions hold for all of them:

- **Query and gallery.** The arguments are `queries, query_labels, gallery,
  gallery_labels`, and `ImageDataset.query_and_gallery(embeddings)` gives those four. If
  gallery is None, each query searches all the other queries, and is left out itself by
  its row. So both protocols of the field, self-retrieval and query against gallery, are
  the same call, and no function needs a mask or a data set.
- **Keys of figures.** A figure is called what a log, TensorBoard and a JSON file call
  it: "recall@1", "mrr", "r_precision", "map@r", "agreement@8", "threshold@0.001",
  "nmi". So results of several functions can be merged and written as they are, where
  an integer key would become a string, and one figure has one name. A share is from 0
  to 1.

`embed` makes the arrays, `embed_query_and_gallery` all four of them, and the callback
`RetrievalEvaluation` measures during `fit`. Inside, `_ranking/` is the exact engine,
`_labels.py` numbers classes of any kind, and `_labeled_batches.py` reads data sets of
any kind for the model.
"""

from keras_dml.evaluation.clustering import k_means
from keras_dml.evaluation.clustering import normalized_mutual_information
from keras_dml.evaluation.embed import binary_codes
from keras_dml.evaluation.embed import embed
from keras_dml.evaluation.embed import embed_query_and_gallery
from keras_dml.evaluation.index_metrics import SearchIndex
from keras_dml.evaluation.index_metrics import agreement
from keras_dml.evaluation.index_metrics import index_metrics
from keras_dml.evaluation.index_metrics import recall_of_neighbors
from keras_dml.evaluation.index_metrics import without_self
from keras_dml.evaluation.nearest_neighbors import nearest_neighbors
from keras_dml.evaluation.ranking_metrics import ranking_metrics
from keras_dml.evaluation.recall import recall_at_k
from keras_dml.evaluation.retrieval_evaluation import RetrievalEvaluation
from keras_dml.evaluation.retrieval_metrics import format_table
from keras_dml.evaluation.retrieval_metrics import retrieval_metrics
from keras_dml.evaluation.sharded_recall import Bars
from keras_dml.evaluation.sharded_recall import Counts
from keras_dml.evaluation.sharded_recall import merge_bars
from keras_dml.evaluation.sharded_recall import merge_counts
from keras_dml.evaluation.sharded_recall import recall_of_counts
from keras_dml.evaluation.sharded_recall import shard_bars
from keras_dml.evaluation.sharded_recall import shard_counts
from keras_dml.evaluation.verification import verification

__all__ = [
    "Bars",
    "Counts",
    "RetrievalEvaluation",
    "SearchIndex",
    "agreement",
    "binary_codes",
    "embed",
    "embed_query_and_gallery",
    "format_table",
    "index_metrics",
    "k_means",
    "merge_bars",
    "merge_counts",
    "nearest_neighbors",
    "normalized_mutual_information",
    "ranking_metrics",
    "recall_at_k",
    "recall_of_counts",
    "recall_of_neighbors",
    "retrieval_metrics",
    "shard_bars",
    "shard_counts",
    "verification",
    "without_self",
]
