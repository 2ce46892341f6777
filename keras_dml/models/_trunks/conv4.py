"""The four-block network of the few-shot literature."""

import keras


def conv4(input_shape: tuple[int, int, int]) -> keras.Model:
    """Four blocks of 3×3 convolution (64 filters), batch norm, ReLU and 2×2 max pool.

    Batch norm has PyTorch's settings (Keras's momentum 0.9, epsilon 1e-5): with Keras's
    own momentum of 0.99 the running statistics lag behind in a short training.

    Args:
        input_shape: (height, width, channels); at least 16×16, so that something is
            left after four halvings.

    Returns:
        A model from (batch, height, width, channels) pixels from 0 to 255 to
        (batch, height // 16, width // 16, 64) features.

    Raises:
        ValueError: if the images are smaller than 16×16.

    Reference:
        [Vinyals et al., 2016](https://arxiv.org/abs/1606.04080), section 4.1.1.
    """
    if min(input_shape[:2]) < 16:
        raise ValueError(
            f"conv4 needs images of at least 16×16 pixels; got input_shape "
            f"{tuple(input_shape)}."
        )
    inputs = keras.Input(input_shape, name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for block in range(1, 5):
        x = keras.layers.Conv2D(
            64, 3, padding="same", use_bias=False, name=f"block{block}_conv"
        )(x)
        x = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, name=f"block{block}_batch_norm"
        )(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(inputs, x, name="conv4")
