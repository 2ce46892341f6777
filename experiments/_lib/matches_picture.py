"""A picture of images and what was found for them."""

from collections.abc import Sequence

import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_dml import search
from keras_dml._files import atomic_file
from keras_dml.data import preprocess_image

_THUMBNAIL = 128
_MOST_COLUMNS = 20


def draw_matches(file: str, images: Sequence[str], matches: search.Matches) -> None:
    """Draws each image with its nearest beside it, class and score above each.

    Args:
        file: the PNG file to write.
        images: paths of the images that were searched for.
        matches: what was found, by path; of more than 20 the nearest 20 are drawn. A
            file that is gone, or can't be read any more, is an empty place.

    Raises:
        OSError: if the file can't be written.
    """
    count = min(matches.names.shape[1], _MOST_COLUMNS)
    figure = Figure(figsize=(1.5 * (count + 1), 1.8 * len(images)))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(images), count + 1, squeeze=False)
    for row, image in enumerate(images):
        _show(axes[row, 0], image, "searched for")
        for column in range(count):
            score = matches.scores[row, column]
            caption = f"{matches.classes[row, column][-22:]}\n{score:.3g}"
            _show(axes[row, column + 1], matches.names[row, column], caption)
    figure.tight_layout()
    with atomic_file(file) as unfinished:
        figure.savefig(unfinished, format="png")


def _show(axis, path, caption):
    axis.set_axis_off()
    if not path:
        return
    # Or matplotlib would typeset a class name that holds dollar signs as a formula.
    axis.set_title(caption, fontsize=7, parse_math=False)
    try:
        encoded = tf.io.read_file(path)
        axis.imshow(preprocess_image(encoded, _THUMBNAIL, _THUMBNAIL))
    except tf.errors.OpError:
        axis.text(0.5, 0.5, "can't be read", ha="center", fontsize=7)
