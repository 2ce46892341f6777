"""What measures embeddings: recall, precision, clusters, and what an index finds.

Functions take arrays and give Python numbers. One convention holds for all of them:

- **Query and gallery.** `queries, query_labels` first, then `gallery, gallery_labels`.
  Without a gallery each query searches all the others, itself left out by its row. The
  same four are what `ImageDataset.query_and_gallery(embeddings)` gives.
- **Keys of figures.** A figure is called what a log file, TensorBoard and a JSON file
  call it: "recall@1", "mrr", "r_precision", "map@r", "agreement@8". A share is from 0
  to 1.

`_ranking/` is the exact engine behind them; `_labels.py` numbers classes.
"""

from keras_dml.evaluation.clustering import k_means
from keras_dml.evaluation.clustering import normalized_mutual_information
from keras_dml.evaluation.embed import binary_codes
from keras_dml.evaluation.embed import embed
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

__all__ = [
    "RetrievalEvaluation",
    "SearchIndex",
    "agreement",
    "binary_codes",
    "embed",
    "format_table",
    "index_metrics",
    "k_means",
    "nearest_neighbors",
    "normalized_mutual_information",
    "ranking_metrics",
    "recall_at_k",
    "recall_of_neighbors",
    "retrieval_metrics",
    "without_self",
]
