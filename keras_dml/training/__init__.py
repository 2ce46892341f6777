"""What a training run needs around `model.fit`."""

from keras_dml.training.epoch_log import EpochLog
from keras_dml.training.mirrored_strategy import check_batch_divides
from keras_dml.training.mirrored_strategy import mirrored_strategy
from keras_dml.training.report import write_report
from keras_dml.training.run_directory import check_run_directory
from keras_dml.training.run_directory import new_run_directory
from keras_dml.training.run_directory import write_json
from keras_dml.training.step_decay import step_decay
from keras_dml.training.warm_up import WarmUp

__all__ = [
    "EpochLog",
    "WarmUp",
    "check_batch_divides",
    "check_run_directory",
    "mirrored_strategy",
    "new_run_directory",
    "step_decay",
    "write_json",
    "write_report",
]
