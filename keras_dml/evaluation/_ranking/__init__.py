"""The exact engine behind `recall_at_k` and `ranking_metrics`.

It ranks nothing: it counts, for each query, how many images of other classes come
before those of its own. `counting.py` explains the algorithm, with a drawing, and runs
it; `blocks.py` sorts embeddings by class and cuts them into the blocks that it
multiplies; `figures.py` turns the counts into Recall@K, reciprocal rank, R-precision
and average precision, and says what ties are worth.
"""
