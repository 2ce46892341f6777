"""Proxy-NCA++."""

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class ProxyNCAPlusPlus(ProxyLoss):
    """Softmax cross-entropy over squared distances to the proxies.

    For an image x of class y, averaged over the batch,

    `D_y / temperature + log(Σ_z exp(-D_z / temperature))`,

    `D_z = |x - p_z|² = 2 - 2 cos_z` of unit vectors. The 2 cancels: this is
    the normalized softmax with half the temperature, 1/18 by default.
    It is pytorch-metric-learning's `ProxyNCALoss` with `softmax_scale=1 / temperature`.
    The paper's other changes (max pooling, layer normalization, batches of a few
    classes, a larger learning rate for the proxies) are not part of the loss.

    Args:
        temperature: above 0. The default, 1/9, is the paper's.
        name: Keras's.
        **kwargs: those of `ProxyLoss`.

    Call arguments:
        y_true: (batch,) integer labels from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if the temperature is out of range, or as in `ProxyLoss`.

    Example:
        >>> cosines = keras_dml.layers.Proxies(4)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyNCAPlusPlus())

    Reference:
        [Teh et al., 2020](https://arxiv.org/abs/2004.01113), section 3;
        [the authors' code](https://github.com/euwern/proxynca_pp).
    """

    def __init__(
        self,
        temperature: float = 1 / 9,
        name: str = "proxy_nca_plus_plus",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=0.11
        )

    @property
    def logit_scale(self) -> float:
        """What the cosines of other classes are multiplied by, 2 / temperature."""
        return 2 / self.temperature

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image."""
        logits = (2 * cosines - 2) / self.temperature
        return keras.losses.categorical_crossentropy(is_own, logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the temperature included."""
        return {**super().get_config(), "temperature": self.temperature}
