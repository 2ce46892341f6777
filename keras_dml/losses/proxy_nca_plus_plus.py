"""The loss of Proxy-NCA++."""

import keras

from keras_dml._checks import checked_number
from keras_dml.losses._batch import softmax_loss
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class ProxyNCAPlusPlus(ProxyLoss):
    """Softmax cross-entropy over squared distances to the proxies.

    For an image x of class y, averaged over the batch,

    `D_y / temperature + log(Σ_z exp(-D_z / temperature))`,

    `D_z = |x - p_z|² = 2 - 2 cos_z` of unit vectors. The 2 cancels: this is
    the normalized softmax with half the temperature, 1/18 by default.
    It is pytorch-metric-learning's `ProxyNCALoss` with `softmax_scale=1 / temperature`.
    The paper's other means (max pooling, layer normalization, batches of a few classes,
    a larger learning rate for the proxies) are not the loss's.

    Args:
        temperature: above 0. The default, 1/9, is the paper's.
        **kwargs: those of `ProxyLoss`.

    Call arguments:
        y_true: (batch,) integer labels from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if the temperature is out of range, or as in `ProxyLoss`.

    Example:
        >>> cosines = keras_dml.layers.Proxies(100)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyNCAPlusPlus())

    Reference:
        [Teh et al., 2020](https://arxiv.org/abs/2004.01113), section 3;
        [the authors' code](https://github.com/euwern/proxynca_pp).
    """

    def __init__(self, temperature=1 / 9, name="proxy_nca_plus_plus", **kwargs):
        """Checks the temperature; the class docstring has the arguments."""
        super().__init__(name=name, **kwargs)
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=0.11
        )

    def losses(self, is_own, cosines):
        """Computes the loss of each image."""
        return softmax_loss((2 * cosines - 2) / self.temperature, is_own)

    def get_config(self):
        """Adds the temperature to the configuration."""
        return {**super().get_config(), "temperature": self.temperature}
