"""An error for unreadable images before they end a long run."""

from keras_dml.data._pipeline.images import UNREADABLE
from keras_dml.data.find_bad_images import find_bad_images
from keras_dml.data.image_dataset import ImageDataset

_MOST_NAMED = 20


def check_images(*datasets: ImageDataset) -> None:
    """Decodes every image once, with a progress bar, and raises if one can't be.

    Args:
        datasets: one or more, checked together.

    Raises:
        ValueError: if images can't be decoded; the message has the paths of the first
            20 and how many there are. Or if no data set is given, or another kind.

    Example:
        >>> check_images(train, test)
        Reading 48 images:
        ...
    """
    bad = list(find_bad_images(*datasets))
    if len(bad) == 1:
        raise ValueError(f"{UNREADABLE} {bad[0]}")
    if bad:
        named = "\n".join(bad[:_MOST_NAMED])
        rest = len(bad) - _MOST_NAMED
        images = sum(map(len, datasets))
        raise ValueError(
            f"Cannot read {len(bad):,} of {images:,} images; repair or "
            f"remove them:\n{named}" + (f"\nand {rest:,} more" if rest > 0 else "")
        )
