"""Optimizers; they need Keras alone."""

from keras_dml.optimizers.sgd import SGD

__all__ = ["SGD"]
