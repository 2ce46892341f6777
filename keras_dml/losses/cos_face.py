"""CosFace: softmax with a margin of the cosine."""

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class CosFace(ProxyLoss):
    """Softmax cross-entropy that asks for a cosine greater by a margin.

    For an image of class y, `log(Σ_z exp(l_z)) - l_y` with

    `l_y = scale (cos_y - margin)`, `l_z = scale cos_z` for all other classes z,

    averaged over the batch. With margin 0 it is the normalized softmax of temperature
    1 / scale. It is pytorch-metric-learning's `CosFaceLoss`.

    Args:
        margin: 0 or more. The default, 0.35, is the paper's.
        scale: above 0. The default, 64, is the paper's (its `s`).
        name: Keras's.
        **kwargs: those of `ProxyLoss`.

    Call arguments:
        y_true: (batch,) integer labels from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if an argument is out of range, or as in `ProxyLoss`.

    Example:
        >>> cosines = keras_dml.layers.Proxies(4)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.CosFace(), metrics=["accuracy"])

    Reference:
        [Wang et al., 2018](https://arxiv.org/abs/1801.09414), equation 4.
    """

    def __init__(
        self,
        margin: float = 0.35,
        scale: float = 64.0,
        name: str = "cos_face",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", least=0, example=0.35)
        self.scale = checked_number(scale, "scale", above=0, example=64.0)

    @property
    def logit_scale(self) -> float:
        """What the cosines of other classes are multiplied by: the scale."""
        return self.scale

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image."""
        cosines = ops.where(is_own, cosines - self.margin, cosines)
        return keras.losses.categorical_crossentropy(
            is_own, self.scale * cosines, from_logits=True
        )

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, margin and scale included."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
