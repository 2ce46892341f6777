"""How TF Serving puts requests of several clients in one batch.

The fields are those of BatchingParameters in TF Serving's session_bundle_config.proto.
"""

import pathlib

from keras_dml._files import atomic_file
from keras_dml.serving._warmup_requests import BATCH_SIZES

_TIMEOUT = 2000
_MOST_WAITING = 100


def write_batching_parameters(versions: pathlib.Path) -> None:
    """Writes `batching_parameters.txt`, where there is none yet.

    A batch is filled up to the next of `BATCH_SIZES`, all of which have been warmed up.

    Args:
        versions: the folder that the versions of a model are in.
    """
    file = versions / "batching_parameters.txt"
    if file.exists():
        return
    lines = [
        "# For TF Serving: --enable_batching --batching_parameters_file=(this file)",
        f"max_batch_size {{ value: {BATCH_SIZES[-1]} }}",
        f"batch_timeout_micros {{ value: {_TIMEOUT} }}",
        f"max_enqueued_batches {{ value: {_MOST_WAITING} }}",
        *(f"allowed_batch_sizes: {size}" for size in BATCH_SIZES),
    ]
    with atomic_file(file) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
