"""Splits the CPU in two, as only a new process can, and prints what came of it."""

import json

import tensorflow as tf

from keras_dml.training import mirrored_strategy

strategy = mirrored_strategy(logical_cpus=2)
seen = strategy.run(
    lambda: tf.distribute.get_replica_context().replica_id_in_sync_group
)
again = mirrored_strategy(logical_cpus=2)
try:
    late = mirrored_strategy(logical_cpus=3)
except RuntimeError as error:
    late = str(error)
print(
    json.dumps(
        {
            "replicas": strategy.num_replicas_in_sync,
            "ids": [int(value) for value in strategy.experimental_local_results(seen)],
            "devices": len(tf.config.list_logical_devices("CPU")),
            "replicas again": again.num_replicas_in_sync,
            "late": late,
        }
    )
)
