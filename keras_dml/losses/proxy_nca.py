"""Proxy-NCA."""

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class ProxyNCA(ProxyLoss):
    """Pulls images to the proxy of their class, relative to all other proxies.

    For an image x of class y, averaged over the batch,

    `D_y / temperature + log(Σ_{z≠y} exp(-D_z / temperature))`,

    `D_z = |x - p_z|² = 2 - 2 cos_z` of unit vectors. The own class is left out of the
    sum, so the loss has no lower bound of 0; `ProxyNCAPlusPlus` takes it in, and so
    does pytorch-metric-learning's `ProxyNCALoss`.

    Args:
        temperature: above 0. The paper has none, which is 1, the default; with 1/9 it
            is the baseline of the paper on Proxy-NCA++.
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
        >>> model.compile("sgd", keras_dml.losses.ProxyNCA(), metrics=["accuracy"])

    Reference:
        [Movshovitz-Attias et al., 2017](https://arxiv.org/abs/1703.07464), section 3.
    """

    def __init__(
        self, temperature: float = 1.0, name: str = "proxy_nca", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=1.0
        )

    @property
    def logit_scale(self) -> float:
        """What the cosines of other classes are multiplied by, 2 / temperature."""
        return 2 / self.temperature

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image."""
        logits = (2 * cosines - 2) / self.temperature
        own = ops.sum(ops.where(is_own, logits, 0), axis=-1)
        others = masked_logsumexp(logits, ops.logical_not(is_own))
        return others - own

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the temperature included."""
        return {**super().get_config(), "temperature": self.temperature}
