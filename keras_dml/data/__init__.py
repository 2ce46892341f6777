"""From data sets of images to the batches that models are trained and tested on.

- A data set of files is an `ImageDataset`: paths, labels and class names, no pixels.
  `datasets/` has one loader per published data set; `image_folder` and `class_folders`
  read folders of your own. `find_bad_images` finds files that can't be decoded, for
  `ImageDataset.without` and `with_replaced`; `check_images` raises for them. Arrays
  (x, labels) are a data set too, and whatever has labels and `load(rows)`, a
  `LoadableDataset`.
- `class_balanced_batches` and `shuffled_batches` make training batches of any of them,
  with random crops, flips and Keras's augmentation; `ordered_batches` gives what to
  test on, `ImageDataset.images` the images alone.
- Image files are decoded (JPEG and every other format in `decode_image`), resized and
  cropped in `_pipeline/images.py`; `preprocess_image` does all of it for one image.
"""

from keras_dml.data._pipeline.images import preprocess_image
from keras_dml.data._pipeline.images import unreadable_image
from keras_dml.data._pipeline.position import batch_position
from keras_dml.data.check_images import check_images
from keras_dml.data.class_balanced_batches import class_balanced_batches
from keras_dml.data.class_balanced_batches import class_balanced_plan
from keras_dml.data.datasets import cars196
from keras_dml.data.datasets import cub200
from keras_dml.data.datasets import glyph_strings
from keras_dml.data.datasets import glyphs
from keras_dml.data.datasets import in_shop
from keras_dml.data.datasets import omniglot
from keras_dml.data.datasets import stanford_online_products
from keras_dml.data.find_bad_images import find_bad_images
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.image_folder import class_folders
from keras_dml.data.image_folder import gallery_folder
from keras_dml.data.image_folder import image_folder
from keras_dml.data.loadable_dataset import LoadableDataset
from keras_dml.data.ordered_batches import ordered_batches
from keras_dml.data.shuffled_batches import shuffled_batches

__all__ = [
    "ImageDataset",
    "LoadableDataset",
    "batch_position",
    "cars196",
    "check_images",
    "class_balanced_batches",
    "class_balanced_plan",
    "class_folders",
    "cub200",
    "find_bad_images",
    "gallery_folder",
    "glyph_strings",
    "glyphs",
    "image_folder",
    "in_shop",
    "omniglot",
    "ordered_batches",
    "preprocess_image",
    "shuffled_batches",
    "stanford_online_products",
    "unreadable_image",
]
