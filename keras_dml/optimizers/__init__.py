"""Gradient descent as the paper's PyTorch code does it, and learning-rate multipliers.

`SGD` is PyTorch's rule. `LearningRateMultipliers` lets the learning rate of any other
optimizer differ between variables, and `layer_wise_decay` gives the multipliers by
depth that transformers are fine-tuned with. All three need Keras alone.

Two inner files: `_multipliers`, the multipliers that both optimizers have;
`_sparse_gradient`, TensorFlow's gradients of some rows of a variable.
"""

from keras_dml.optimizers.layer_wise_decay import layer_wise_decay
from keras_dml.optimizers.learning_rate_multipliers import LearningRateMultipliers
from keras_dml.optimizers.sgd import SGD

__all__ = ["SGD", "LearningRateMultipliers", "layer_wise_decay"]
