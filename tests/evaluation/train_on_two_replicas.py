"""Trains on two replicas with Recall@1 measured, and saves what it ends with.

python train_on_two_replicas.py DATASET FOLDER

DATASET is an .npz file with the paths and labels of an ImageDataset. FOLDER gets
`embedder.keras` and `measured.npz`: the embeddings and the history of Recall@1.
"""

import sys

import keras
import numpy as np

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops
from keras_dml.data import ImageDataset
from keras_dml.data import class_balanced_batches
from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.evaluation import embed
from keras_dml.training import mirrored_strategy

SIDE = 14


def main(file, folder):
    strategy = mirrored_strategy(logical_cpus=2)
    assert strategy.num_replicas_in_sync == 2
    with np.load(file) as arrays:
        dataset = ImageDataset(arrays["paths"], arrays["labels"], tuple("abcde"))
    keras.utils.set_random_seed(0)
    with strategy.scope():
        images = keras.Input((SIDE, SIDE, 3))
        x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
        x = keras.layers.Conv2D(6, 3, strides=2)(x)
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
        x = keras.layers.Dropout(0.2)(x)
        embedder = keras.Model(images, keras.layers.Flatten()(x))
        model = keras.Model(images, keras.layers.Dense(5)(embedder.output))
        model.compile(
            keras.optimizers.SGD(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    batches = class_balanced_batches(dataset, 2, 3, image_size=SIDE, cache="memory")
    # Batches of 4 leave one of 21 images over, and the second replica none; batches of
    # 8 leave 5, which two replicas can't share evenly.
    measure = RetrievalEvaluation(embedder, dataset, ks=(1,), batch_size=4)
    history = model.fit(
        batches, epochs=2, callbacks=[measure], shuffle=False, verbose=0
    )
    assert int(model.optimizer.iterations.numpy()) == 2 * len(batches)
    moving_mean = embedder.layers[3].moving_mean
    mirrored = moving_mean if IS_KERAS_2 else moving_mean.value
    np.savez(
        f"{folder}/measured.npz",
        embeddings=embed(embedder, dataset, batch_size=8, verbose=0),
        recall=history.history["val_recall@1"],
        moving_mean=ops.convert_to_numpy(moving_mean),
        of_replicas=[value.numpy() for value in mirrored.values],
    )
    embedder.save(f"{folder}/embedder.keras")
    if not IS_KERAS_2:
        for place, value in enumerate(mirrored.values):
            value.assign([float(place)] * 6)
        embed(embedder, dataset, verbose=0)
        assert [value.numpy().tolist() for value in mirrored.values] == [[0.5] * 6] * 2


if __name__ == "__main__":
    main(*sys.argv[1:])
