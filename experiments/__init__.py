"""Programs: prepare, train, evaluate, export and search. Run them with `python -m`."""

from experiments import quiet_tensorflow

quiet_tensorflow.import_tensorflow()
