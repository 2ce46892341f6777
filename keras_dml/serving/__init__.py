"""Serving: a trained embedding model as a SavedModel, for TF Serving."""

from keras_dml.serving.export import export

__all__ = ["export"]
