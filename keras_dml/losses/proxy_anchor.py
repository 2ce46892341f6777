"""Proxy-Anchor loss."""

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import gather_replicas
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses._masked import masked_mean
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class ProxyAnchor(ProxyLoss):
    """Pulls the images of its class to each proxy and pushes all others away.

    `mean_{p with images} log(1 + Σ_{x of p} exp(-alpha (s(x, p) - margin)))
    + mean_p log(1 + Σ_{x not of p} exp(alpha (s(x, p) + margin)))`,

    `s` being the cosine; the first mean is over the proxies whose class is in
    the batch, the second over all. Under `MirroredStrategy` the sums over x go over the
    images of all replicas, so that value and gradient are those of one device with the
    same batch. It is pytorch-metric-learning's `ProxyAnchorLoss`. The authors train the
    proxies with 100 times the learning rate of the rest.

    The value does not belong to single images, so there are no sample weights.

    Args:
        margin: the paper's δ, 0 or more. The default, 0.1, is the paper's.
        alpha: the paper's α, above 0; its value is 32.
        name: Keras's.
        **kwargs: those of `ProxyLoss`; a reduction of "sum" multiplies the value by the
            size of the batch.

    Call arguments:
        y_true: (batch,) integer labels from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if an argument is out of range, there are sample weights, or as in
            `ProxyLoss`.

    Example:
        >>> cosines = keras_dml.layers.Proxies(4)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyAnchor(), metrics=["accuracy"])

    Reference:
        [Kim et al., 2020](https://arxiv.org/abs/2003.13911), equation 4.
    """

    def __init__(
        self,
        margin: float = 0.1,
        alpha: float = 32.0,
        name: str = "proxy_anchor",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", least=0, example=0.1)
        self.alpha = checked_number(alpha, "alpha", above=0, example=32.0)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of a batch."""
        self._refuse_sample_weight(sample_weight)
        return super().__call__(y_true, y_pred)

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Gives each image the value of the batch, so that their mean is that value."""
        is_other = ops.logical_not(is_own)
        together = _logsumexp(self.alpha * (self.margin - cosines), is_own)
        apart = _logsumexp(self.alpha * (cosines + self.margin), is_other)
        has_images = gather_replicas(ops.cast(ops.any(is_own, axis=0), "int32")[None])
        has_images = ops.any(ops.cast(has_images, "bool"), axis=0)
        together = masked_mean(ops.softplus(together), has_images)
        apart = ops.mean(ops.softplus(apart))
        return ops.zeros_like(cosines[:, 0]) + together + apart

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, margin and alpha included."""
        return {**super().get_config(), "margin": self.margin, "alpha": self.alpha}


def _logsumexp(x: Tensor, mask: Tensor) -> Tensor:
    """Gives (classes,) from (batch, classes) of the images of all replicas."""
    of_replica = masked_logsumexp(x, mask, axis=0)
    return ops.logsumexp(gather_replicas(of_replica[None]), axis=0)
