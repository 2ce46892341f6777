"""Programs, one a file, run with `python -m`; README.md beside this lists them.

They need the extra `experiments`. All of its packages are imported here, so that a
missing one is reported at once, and not after hours of training.
"""

import importlib
import sys

from experiments._lib import quiet_tensorflow

_PACKAGES = ("ml_collections", "tensorboard", "matplotlib", "scipy", "fontTools", "PIL")

for _package in _PACKAGES:
    try:
        importlib.import_module(_package)
    except ImportError as error:
        print(
            f"error: {error}. The programs need the extra experiments: "
            'pip install "keras_dml[experiments]"',
            file=sys.stderr,
        )
        sys.exit(2)

quiet_tensorflow.import_tensorflow()
