"""Sub-center ArcFace."""

from typing import Any

import keras

from keras_dml.losses.arc_face import ArcFace


@keras.saving.register_keras_serializable(package="keras_dml")
class SubCenterArcFace(ArcFace):
    """ArcFace for classes of several centers, of which an image need be near one.

    `ArcFace`, with its margin on the angle of the image to its class, of the cosines

    `cos θ_z = max_k cos(x, p_zk)` over the centers k of class z,

    which `Proxies(num_classes, centers=3)` computes: K = 3 is the paper's. Noisy and
    rare images of a class gather around centers of their own, and no longer pull on
    those of the others.

    It is pytorch-metric-learning's `SubCenterArcFaceLoss` (its margin is in degrees).

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
        >>> cosines = keras_dml.layers.Proxies(4, centers=3)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile(
        ...     "sgd", keras_dml.losses.SubCenterArcFace(), metrics=["accuracy"]
        ... )

    Reference:
        [Deng et al., 2020](https://doi.org/10.1007/978-3-030-58621-8_43), equation 3.
    """

    def __init__(
        self,
        margin: float = 0.5,
        scale: float = 64.0,
        name: str = "sub_center_arc_face",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, scale, name, **kwargs)
