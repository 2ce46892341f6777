"""Embedding more images than one process should: shards, workers on Ray, the record.

`list_images` says which images there are, and `corpus_shards` cuts them into shards of
ten batches each. A shard is one Parquet file, whose name is its place and the SHA-256
of all that it follows from: the model's file, the sides, and the path, class, size and
time of each image. `embed_shard` fills it with what `keras_dml.evaluation.embed` gives,
writes it whole or not at all, and leaves one that is there as it is, so that it may be
called any number of times, on any machine. `embed_on_ray` has workers call it, each
with a model of its own, gives the shard of a worker that is lost to another, and hires
new ones as machines come. `record` says what the files of a folder are of, and
`gallery` puts them into one that `experiments.index` makes.
"""
