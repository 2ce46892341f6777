"""From a config to its data set."""

import ml_collections
import numpy as np

from keras_dml import data

PAPER_LOADERS = {
    "cub200": data.cub200,
    "cars196": data.cars196,
    "stanford_online_products": data.stanford_online_products,
    "in_shop": data.in_shop,
}
"""The paper's data sets, by what `config.data.loader` calls them."""


def load_data(
    config: ml_collections.ConfigDict, data_dir: str | None
) -> tuple[data.ImageDataset, data.ImageDataset]:
    """Loads the (train, test) sets that `config.data` names.

    Args:
        config: `config.data.loader` is "glyphs", "glyph_strings", "omniglot",
            "image_folder" or one of `PAPER_LOADERS`; the rest of `config.data` is that
            loader's own.
        data_dir: the folder with the files; glyphs and strings of them need none.

    Raises:
        ValueError: if there is no such loader, it needs data_dir, or the test set can't
            tell one model from another.
    """
    train, test = _load(config, data_dir)
    if len(test.class_names) < 2 or np.bincount(test.labels).max() < 2:
        raise ValueError(
            f"the test set has {len(test):,} images of {len(test.class_names):,} "
            "classes; Recall@K needs at least 2 classes, and one with 2 images."
        )
    return train, test


def _load(config, data_dir):
    options = config.data
    if options.loader == "glyphs":
        return data.glyphs(seed=config.seed)
    if options.loader == "glyph_strings":
        return data.glyph_strings(
            options.classes, options.images_per_class, seed=config.seed
        )
    names = ("glyphs", "glyph_strings", "omniglot", "image_folder", *PAPER_LOADERS)
    if options.loader not in names:
        raise ValueError(
            f"config.data.loader must be one of {', '.join(names)}; got "
            f"{options.loader!r}."
        )
    if not data_dir:
        raise ValueError(f"--data_dir is needed: the folder with {options.loader}.")
    if options.loader in PAPER_LOADERS:
        return PAPER_LOADERS[options.loader](data_dir)
    if options.loader == "omniglot":
        return data.omniglot(
            f"{data_dir}/{options.train_zip}", f"{data_dir}/{options.test_zip}"
        )
    return data.image_folder(data_dir, options.test_fraction, config.seed)
