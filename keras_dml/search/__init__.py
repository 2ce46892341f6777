"""Search: indexes of neighbors, exact and approximate, and galleries of images.

An index takes the rows of a gallery, embeddings or packed binary codes, and finds those
most similar to a query; indexes of all kinds are built, searched, saved and loaded
alike. Take `ExactNeighbors` up to some 100,000 rows, where it is often the fastest too,
and above that `calibrated_neighbors`, which gives an `HNSWNeighbors` (a graph, the
faster one, through faiss) or an `AnnoyNeighbors` (trees, mapped from its file) the
least effort that agrees with exact search.

A gallery knows which image each row is, and searches by image: a `Gallery` is sealed
and stays as it is, a `LanceGallery` grows. `load_gallery` opens either.
"""

from keras_dml.search.annoy_neighbors import AnnoyNeighbors
from keras_dml.search.calibrated_neighbors import KINDS
from keras_dml.search.calibrated_neighbors import calibrated_neighbors
from keras_dml.search.exact_neighbors import ExactNeighbors
from keras_dml.search.gallery import Gallery
from keras_dml.search.gallery import save_gallery
from keras_dml.search.hnsw_neighbors import HNSWNeighbors
from keras_dml.search.lance_gallery import LanceGallery
from keras_dml.search.load_gallery import load_gallery
from keras_dml.search.load_neighbors import load_neighbors
from keras_dml.search.matches import Matches
from keras_dml.search.neighbors import Calibration
from keras_dml.search.neighbors import Neighbors

__all__ = [
    "KINDS",
    "AnnoyNeighbors",
    "Calibration",
    "ExactNeighbors",
    "Gallery",
    "HNSWNeighbors",
    "LanceGallery",
    "Matches",
    "Neighbors",
    "calibrated_neighbors",
    "load_gallery",
    "load_neighbors",
    "save_gallery",
]
