"""From a model and a data set to an array of embeddings."""

import keras
import numpy as np

from keras_dml._ops import ops
from keras_dml.evaluation.input_side import input_side


def embed(
    embedder: keras.Model,
    dataset,
    resize: int | None = None,
    batch_size: int = 100,
    verbose: str | int = "auto",
) -> np.ndarray:
    """Embeds every image of a data set, in order.

    Under a distribution strategy each replica has moved its own batch-norm
    statistics. They are set to their mean first, which is what saving keeps, so that
    an embedding does not depend on the replica that computes it.

    Args:
        embedder: a model from (batch, side, side, 3) RGB pixels, 0 to 255, to
            (batch, dim) embeddings.
        dataset: a `keras_dml.data.ImageDataset`, or anything else whose
            `images(image_size, resize, batch_size)` gives batches of such pixels.
        resize: side that images are resized to before the middle is cut out; default
            as the paper's 256 to 224.
        batch_size: images in a batch.
        verbose: Keras's progress bar: 0 for none.

    Returns:
        (images, dim) float32.

    Raises:
        ValueError: if the model does not take square images of a fixed size.
    """
    for variable in embedder.non_trainable_variables:
        variable.assign(ops.convert_to_numpy(variable))
    images = dataset.images(input_side(embedder), resize, batch_size)
    return embedder.predict(images, verbose=verbose)
