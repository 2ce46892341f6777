"""ArcFace: softmax with a margin of the angle."""

import math
from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses.proxy_loss import ProxyLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class ArcFace(ProxyLoss):
    """Softmax cross-entropy that asks for an angle smaller by a margin.

    For an image of class y at angle θ_y to its proxy, `log(Σ_z exp(l_z)) - l_y` with

    `l_y = scale cos(θ_y + margin)`, `l_z = scale cos θ_z` for all other classes z,

    averaged over the batch. Where θ_y + margin is beyond π the cosine would rise again;
    there `l_y = scale (cos θ_y - margin sin(margin))`, as in the authors' code and in
    pytorch-metric-learning, whose `ArcFaceLoss` this is (its margin is in degrees). At
    an angle of 0 and of π, where the gradient by the cosine is infinite, that of the
    margin's part is 0.

    Args:
        margin: in radians, from 0 to below π. The default, 0.5, is the paper's.
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
        >>> model.compile("sgd", keras_dml.losses.ArcFace(), metrics=["accuracy"])

    Reference:
        [Deng et al., 2019](https://arxiv.org/abs/1801.07698), equation 3.
    """

    def __init__(
        self,
        margin: float = 0.5,
        scale: float = 64.0,
        name: str = "arc_face",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(
            margin, "margin, in radians,", least=0, below=math.pi, example=0.5
        )
        self.scale = checked_number(scale, "scale", above=0, example=64.0)

    @property
    def logit_scale(self) -> float:
        """What the cosines of other classes are multiplied by: the scale."""
        return self.scale

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image."""
        sines = ops.sqrt(ops.maximum(1 - ops.square(cosines), 1e-7))
        turned = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        turned = ops.where(cosines >= -math.cos(self.margin), turned, beyond)
        logits = self.scale * ops.where(is_own, turned, cosines)
        return keras.losses.categorical_crossentropy(is_own, logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, margin and scale included."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
