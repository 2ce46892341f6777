"""Trains three epochs on some of the glyphs, and prints how they go.

python train_on_few_glyphs.py WEIGHTS

Starts from WEIGHTS, a file for Keras, and makes it if it is not there. The backend is
the environment's.
"""

import json
import pathlib
import sys

import keras

from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import load_data
from experiments.configs.glyphs import get_config
from keras_dml import evaluation

weights = pathlib.Path(sys.argv[1])
config = get_config()
config.learning_rate = 0.01
train, test = load_data(config, None)
_, few = train.split_by_class(0.2)
_, measured = test.split_by_class(0.2)
keras.utils.set_random_seed(config.seed)
trunk, embedder, model = build_models(config, len(few.class_names))
if weights.exists():
    model.load_weights(weights)
else:
    model.save_weights(weights)
batches = build_batches(config, few)
compile_model(config, model, len(batches), trunk)


def recall():
    embeddings = evaluation.embed(embedder, measured, config.resize, verbose=0)
    return evaluation.recall_at_k(embeddings, measured.labels, ks=(1,))["recall@1"]


class Note(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        losses.append(float(logs["loss"]))


losses, before = [], recall()
history = model.fit(batches, epochs=3, callbacks=[Note()], shuffle=False, verbose=0)
found = {"losses": losses, "epochs": history.history["loss"]}
print(json.dumps({**found, "recall": [before, recall()]}))
