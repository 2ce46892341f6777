"""A training step of the sampled softmax, from ten thousand classes to a million.

An embedding head of 512 dimensions under the softmax, batch 75, SGD with momentum and
L2; beside it ArcFace over the same sample, the softmax over all classes, where that is
bearable, and TensorFlow's own `tf.nn.sampled_softmax_loss` with its sparse momentum
optimizer. Time is measured with all of them in turn; memory, each in a process of its
own. Then, on fewer classes, the loss over all classes that each way of training
reaches. Run it with
`make benchmark-classes`.
"""

import argparse
import json
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_dml
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.peak_memory import peak_mib
from tests.benchmarks.peak_memory import resident_mib

_DIM = 512
_BATCH = 75
_IMAGES_PER_CLASS = 5
_SAMPLED = 10_000
_TEMPERATURE = 0.05
_RATE, _MOMENTUM, _L2 = 0.01, 0.9, 1e-4

_STEPS = 5
_ROUNDS = 7
_CASES = [
    ("sampled", 10_000),
    ("sampled", 100_000),
    ("sampled", 1_000_000),
    ("ArcFace, sampled", 10_000),
    ("ArcFace, sampled", 100_000),
    ("ArcFace, sampled", 1_000_000),
    ("tf.nn.sampled_softmax_loss", 10_000),
    ("tf.nn.sampled_softmax_loss", 100_000),
    ("tf.nn.sampled_softmax_loss", 1_000_000),
    ("full", 10_000),
    ("full", 100_000),
]

_LEARNED_CLASSES = 5_000
_LEARNED_STEPS = 600
_SHARES = (0.5, 0.1, 0.02)


def _batches(classes, steps, seed):
    """Vectors around a random point for each class, which 64 random bits stand for."""
    rng = np.random.default_rng(seed)
    spread = np.random.default_rng(1).normal(size=(64, _DIM)) / 8
    for _ in range(steps):
        drawn = rng.choice(classes, _BATCH // _IMAGES_PER_CLASS, replace=False)
        labels = np.repeat(drawn, _IMAGES_PER_CLASS)
        bits = np.stack([np.random.default_rng(z).integers(0, 2, 64) for z in drawn])
        centers = np.repeat((2 * bits - 1) @ spread, _IMAGES_PER_CLASS, 0)
        x = centers + 1.5 * rng.normal(size=centers.shape)
        yield x.astype(np.float32), labels


def _dataset(classes, steps, seed):
    x, labels = map(np.concatenate, zip(*_batches(classes, steps, seed), strict=True))
    # TensorFlow's tuner would end a pass with a wait of a quarter of a second or none.
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensor_slices((x, labels)).batch(_BATCH).cache()
    return batches.with_options(options)


def _head():
    inputs = keras.Input((_DIM,))
    x = keras.layers.Dense(_DIM, use_bias=False)(inputs)
    return keras.Model(inputs, keras_dml.layers.L2Normalization()(x))


def _classifier(classes, sampled, by_row=True):
    softmax = keras_dml.layers.NormalizedSoftmax(classes, _TEMPERATURE, sampled, seed=0)
    softmax_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = _compiled(softmax, softmax_loss)
    softmax.class_weights.updates_by_row = by_row and sampled is not None
    return model


def _compiled(layer, loss):
    model = keras_dml.models.Classifier(_head(), layer)
    model.compile(keras_dml.optimizers.SGD(_RATE, momentum=_MOMENTUM, l2=_L2), loss)
    return model


def _by_tensorflow(classes, sampled):
    """A training step with TensorFlow's sampled softmax, not normalized."""
    head = _head()
    weights = tf.Variable(tf.random.uniform((classes, _DIM), -(_DIM**-0.5), _DIM**-0.5))
    biases = tf.zeros(classes)
    optimizer = tf.compat.v1.train.MomentumOptimizer(_RATE, _MOMENTUM)

    @tf.function
    def step(x, labels):
        labels = labels[:, None]
        with tf.GradientTape() as tape:
            drawn = tf.random.uniform_candidate_sampler(
                labels, 1, sampled, True, classes
            )
            loss = tf.nn.sampled_softmax_loss(
                weights, biases, labels, head(x), sampled, classes,
                sampled_values=drawn,
            )  # fmt: skip
            loss = tf.reduce_mean(loss)
        variables = [
            *(variable.value for variable in head.trainable_variables),
            weights,
        ]
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return loss

    return step


def _contestant(kind, classes):
    """Something to call for `_STEPS` training steps."""
    sampled = min(_SAMPLED, classes)
    if kind == "tf.nn.sampled_softmax_loss":
        # It draws only classes that are not in the batch.
        step = _by_tensorflow(classes, min(sampled, classes - _BATCH))
        batches = list(_dataset(classes, _STEPS, 0))
        return lambda: [step(*batch).numpy() for batch in batches]
    if kind == "ArcFace, sampled":
        proxies = keras_dml.layers.Proxies(classes, sampled_classes=sampled, seed=0)
        model = _compiled(proxies, keras_dml.losses.ArcFace())
    else:
        model = _classifier(classes, sampled if kind == "sampled" else None)
    batches = _dataset(classes, _STEPS, 0)
    return lambda: model.fit(batches, verbose=0, shuffle=False)


def _print_memory(kind, classes):
    """Prints the MiB that making, and then training, took at the highest."""
    _contestant("sampled", 100)()
    before, made = resident_mib(), []
    making = peak_mib(lambda: made.append(_contestant(kind, classes)))
    print(json.dumps([making - before, peak_mib(made[0]) - before]))


def _memory(kind, classes):
    command = [sys.executable, "-m", "tests.benchmarks.benchmark_classes"]
    command += ["--memory", kind, str(classes)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def _print_steps():
    memory = {case: _memory(*case) for case in _CASES}
    medians = alternating_medians(
        {case: _contestant(*case) for case in _CASES}, _ROUNDS
    )
    base = medians[_CASES[0]]
    print(f"medians of {_ROUNDS} alternating rounds of {_STEPS} steps")
    print(
        "| softmax | classes | ms a step | ratio | weights and state | made | trained |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind, classes in _CASES:
        seconds = medians[kind, classes]
        made, trained = memory[kind, classes]
        state = 2 * classes * _DIM * 4 / 2**20
        print(
            f"| {kind} | {classes:,} | {1000 * seconds / _STEPS:.0f} "
            f"| {seconds / base:.2f} | {state:,.0f} MiB | {made:,.0f} MiB "
            f"| {trained:,.0f} MiB |",
            flush=True,
        )


def _print_losses():
    """What training on a share reaches, by row and by the dense rule."""
    train = _dataset(_LEARNED_CLASSES, _LEARNED_STEPS, 1)
    test = _dataset(_LEARNED_CLASSES, 40, 2)
    print(
        f"\nloss over all of {_LEARNED_CLASSES:,} classes, after {_LEARNED_STEPS} "
        "steps, on other batches"
    )
    print("| classes drawn | update | loss | accuracy |\n| --- | --- | --- | --- |")
    ways = [("all", None, True)]
    ways += [(f"{share:.0%}", share, True) for share in _SHARES]
    ways += [(f"{share:.0%}", share, False) for share in _SHARES]
    for name, share, by_row in ways:
        keras.utils.set_random_seed(0)
        model = _classifier(_LEARNED_CLASSES, share, by_row)
        model.compile(model.optimizer, model.loss, metrics=["accuracy"])
        model.fit(train, verbose=0, shuffle=False)
        loss, accuracy = model.evaluate(test, verbose=0)
        rule = "by row" if by_row and share else "dense"
        print(f"| {name} | {rule} | {loss:.3f} | {100 * accuracy:.1f} % |", flush=True)


def main():
    """Prints the table of time and memory, and that of losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--memory", nargs=2, metavar=("KIND", "CLASSES"))
    parser.add_argument("--part", choices=("steps", "losses"))
    arguments = parser.parse_args()
    if arguments.memory:
        _print_memory(arguments.memory[0], int(arguments.memory[1]))
        return
    pin_threads()
    print(f"{_DIM} dimensions, batch {_BATCH}, {_SAMPLED:,} classes drawn")
    if arguments.part != "losses":
        _print_steps()
    if arguments.part != "steps":
        _print_losses()


if __name__ == "__main__":
    main()
