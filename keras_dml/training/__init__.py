"""What a training run needs around `model.fit`.

Before it: the distribution strategy and a check of the batch size (`strategy.py`), the
strategy of several workers (`multi_worker_strategy.py`; `_workers.py` has what they
tell each other), the paper's learning rate (`step_decay.py`), batch normalization at
rest and class weights that start as class means, for pretrained trunks, and a folder
for the run (`run_directory.py`, with the log of its epochs). In it: `FreezeTrunk`, for
epochs in which only the new layers learn, `StopOnNonFiniteLoss`, which ends a training
that diverged, and `Resume`, which lets a stopped `fit` go on (`_checkpoints.py` and
`_state.py` hold what it saves). After it: a page of figures (`report.py`, which needs
matplotlib) and the embeddings for TensorBoard (`projector.py`).
"""

from keras_dml.training._workers import from_chief
from keras_dml.training._workers import is_chief
from keras_dml.training._workers import lost_worker
from keras_dml.training._workers import wait_for_chief
from keras_dml.training.freeze_batch_norm import freeze_batch_norm
from keras_dml.training.freeze_trunk import FreezeTrunk
from keras_dml.training.imprint_class_weights import imprint_class_weights
from keras_dml.training.multi_worker_strategy import multi_worker_strategy
from keras_dml.training.projector import write_projector
from keras_dml.training.report import write_report
from keras_dml.training.resume import Resume
from keras_dml.training.run_directory import EpochLog
from keras_dml.training.run_directory import check_run_directory
from keras_dml.training.run_directory import new_run_directory
from keras_dml.training.step_decay import step_decay
from keras_dml.training.stop_on_non_finite_loss import StopOnNonFiniteLoss
from keras_dml.training.strategy import check_batch_divides
from keras_dml.training.strategy import mirrored_strategy

__all__ = [
    "EpochLog",
    "FreezeTrunk",
    "Resume",
    "StopOnNonFiniteLoss",
    "check_batch_divides",
    "check_run_directory",
    "freeze_batch_norm",
    "from_chief",
    "imprint_class_weights",
    "is_chief",
    "lost_worker",
    "mirrored_strategy",
    "multi_worker_strategy",
    "new_run_directory",
    "step_decay",
    "wait_for_chief",
    "write_projector",
    "write_report",
]
