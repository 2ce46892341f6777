"""Programs, one a file, run with `python -m`; README.md beside this lists them."""

from experiments import quiet_tensorflow

quiet_tensorflow.import_tensorflow()
