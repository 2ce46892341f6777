"""The way out: a SavedModel for TF Serving and an index of a gallery."""

from keras_dml.serving.export import export
from keras_dml.serving.gallery_index import GalleryIndex
from keras_dml.serving.gallery_index import load_gallery_index
from keras_dml.serving.gallery_index import save_gallery_index

__all__ = ["GalleryIndex", "export", "load_gallery_index", "save_gallery_index"]
