"""One loader a data set: its metadata, read and checked, as `ImageDataset` values."""

from keras_dml.data.datasets.cars196 import cars196
from keras_dml.data.datasets.cub200 import cub200
from keras_dml.data.datasets.glyph_strings import glyph_strings
from keras_dml.data.datasets.glyphs import glyphs
from keras_dml.data.datasets.in_shop import in_shop
from keras_dml.data.datasets.omniglot import omniglot
from keras_dml.data.datasets.stanford_online_products import stanford_online_products

__all__ = [
    "cars196",
    "cub200",
    "glyph_strings",
    "glyphs",
    "in_shop",
    "omniglot",
    "stanford_online_products",
]
