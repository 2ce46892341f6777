"""Gradients on whichever backend Keras runs."""

import keras

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops


def gradients(layer, loss, x):
    """Gradients of `loss(layer(x))` by x and by each of the layer's weights."""
    if not layer.built:
        layer(x)
    x = ops.convert_to_tensor(x)
    weights = layer.trainable_variables
    if not IS_KERAS_2:
        weights = [weight.value for weight in weights]
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(layer(x))
        found = tape.gradient(value, [x, *weights])
    elif backend == "jax":
        import jax

        def loss_of(x, *weights):
            state = [weight.value for weight in layer.non_trainable_variables]
            return loss(layer.stateless_call(weights, state, x)[0])

        found = jax.grad(loss_of, argnums=range(1 + len(weights)))(x, *weights)
    else:
        import torch

        x = x.detach().requires_grad_()
        found = torch.autograd.grad(loss(layer(x)), [x, *weights])
    return [ops.convert_to_numpy(gradient) for gradient in found]
