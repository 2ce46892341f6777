"""SoftTriple loss."""

from typing import Any

import keras

from keras_dml.losses.cos_face import CosFace


@keras.saving.register_keras_serializable(package="keras_dml")
class SoftTriple(CosFace):
    """Softmax cross-entropy over classes of several centers, with a margin.

    For an image of class y, averaged over the batch,

    `log(exp(scale (S_y - margin)) + Σ_{z≠y} exp(scale S_z)) - scale (S_y - margin)`,

    with the softmax-weighed mean of the centers k of class z,

    `S_z = Σ_k softmax_k(cos(x, p_zk) / γ) cos(x, p_zk)`,

    which `Proxies(num_classes, centers=10, center_temperature=0.1)` computes: K = 10
    and γ = 0.1 are the paper's. In S it is `CosFace`, whose defaults are others.

    It is pytorch-metric-learning's `SoftTripleLoss`. The paper also draws the centers
    of a class together, so that K need not fit, by what is here the regularizer
    `keras_dml.layers.CenterMerging`; pytorch-metric-learning's default leaves it out.

    Args:
        margin: the paper's δ, 0 or more; its value is 0.01.
        scale: the paper's λ, above 0; its value is 20.
        name: Keras's.
        **kwargs: those of `ProxyLoss`.

    Call arguments:
        y_true: (batch,) integer labels from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if an argument is out of range, or as in `ProxyLoss`.

    Example:
        >>> merging = keras_dml.layers.CenterMerging(0.2, centers=10)
        >>> proxies = keras_dml.layers.Proxies(
        ...     4,
        ...     centers=10,
        ...     center_temperature=0.1,
        ...     class_weights_regularizer=merging,
        ... )
        >>> cosines = proxies(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.SoftTriple(), metrics=["accuracy"])

    Reference:
        [Qian et al., 2019](https://arxiv.org/abs/1909.05235), section 3.3;
        [the authors' code](https://github.com/idstcv/SoftTriple).
    """

    def __init__(
        self,
        margin: float = 0.01,
        scale: float = 20.0,
        name: str = "soft_triple",
        **kwargs: Any,
    ) -> None:
        super().__init__(margin, scale, name, **kwargs)
