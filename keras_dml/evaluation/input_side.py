"""The size of the images that a model takes."""

import keras


def input_side(embedder: keras.Model) -> int:
    """The side, in pixels, of the square images that a model takes.

    Raises:
        ValueError: if the model does not take square images of a fixed size.
    """
    shape = embedder.input_shape
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2]:
        raise ValueError(
            "embedder must take square images of a fixed size, (batch, side, side, 3); "
            f"{embedder.name!r} takes {shape}."
        )
    return shape[1]
