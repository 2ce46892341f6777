"""Gradient descent as the paper's PyTorch code does it; it needs Keras alone.

`_sparse_gradient` is an inner file: TensorFlow's gradients of some rows of a variable.
"""

from keras_dml.optimizers.sgd import SGD

__all__ = ["SGD"]
