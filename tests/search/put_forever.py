"""Puts embeddings into a gallery, 50 at a time, until it is killed."""

import sys

import numpy as np

from keras_dml.search import load_gallery

gallery = load_gallery(sys.argv[1])
rng = np.random.default_rng(0)
number = 0
while True:
    ids = [str(number * 50 + row) for row in range(50)]
    gallery.put_embeddings(rng.normal(size=(50, 8)), ids, [str(number)] * 50)
    print("put", flush=True)
    number += 1
