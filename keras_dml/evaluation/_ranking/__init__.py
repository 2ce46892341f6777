"""The exact engine behind `recall_at_k`, `ranking_metrics` and `verification`.

It ranks nothing: it counts, for each query, how many images of other classes come
before those of its own. `counting.py` explains the algorithm, with a drawing, and makes
the tiles; `block_counts.py` counts what they hold; `bounds.py` rules out most pairs of
large sets without multiplying them whole, and has the proof; `blocks.py` sorts
embeddings by class and cuts them into the blocks that are multiplied; `figures.py`
turns the counts into Recall@K, reciprocal rank, R-precision and average precision, and
says what ties are worth; `processors.py` says how many workers there may be.

`verification` has one ranking, that of all pairs. `pairs.py` makes them, from the same
blocks; `pair_counts.py` counts them, and `rank_search.py` finds the pair of a certain
rank among those too many to keep; `roc.py` turns the counts into the figures of a
curve; `resampling.py` draws classes anew for the interval of a threshold.
"""
