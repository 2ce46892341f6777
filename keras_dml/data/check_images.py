"""Finding unreadable images before they end a long run."""

from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.read_images import read_all_images


def check_images(dataset: ImageDataset) -> None:
    """Decodes every image once, with a progress bar.

    Raises:
        ValueError: if an image can't be decoded; the message has its path.
    """
    for _ in read_all_images(dataset.paths, resize=1):
        pass
