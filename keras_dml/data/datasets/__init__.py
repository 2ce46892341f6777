"""One loader per data set, each returning (train, test) as `ImageDataset`s.

`cub200`, `cars196`, `in_shop` and `stanford_online_products` read the official
archives, extracted; `omniglot` reads the official zip files. `glyphs` and
`glyph_strings` need no download: they draw their images. `cars196`, `glyphs` and
`glyph_strings` need packages that `pip install "keras_dml[datasets]"` installs.
"""

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
