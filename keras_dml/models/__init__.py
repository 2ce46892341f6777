"""Trunks, the embedding model and the classifier; they need Keras alone."""

from keras_dml.models._checkpoints.published_file import checkpoint_hash
from keras_dml.models.classifier import Classifier
from keras_dml.models.cross_batch_memory import CrossBatchMemory
from keras_dml.models.embedding_model import embedding_model
from keras_dml.models.pixel_normalization import PixelNormalization
from keras_dml.models.pixel_preprocessing import PixelPreprocessing
from keras_dml.models.trunk import TRUNKS
from keras_dml.models.trunk import trunk

__all__ = [
    "TRUNKS",
    "Classifier",
    "CrossBatchMemory",
    "PixelNormalization",
    "PixelPreprocessing",
    "checkpoint_hash",
    "embedding_model",
    "trunk",
]
