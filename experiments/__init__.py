"""Programs, one a file, run with `python -m`; README.md beside this lists them."""

from experiments._lib import quiet_tensorflow

quiet_tensorflow.import_tensorflow()
