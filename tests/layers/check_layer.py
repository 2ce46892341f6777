"""What every layer must do."""

import json

import keras
import numpy as np

from keras_dml._ops import dtype_name
from keras_dml._ops import ops

HALF = ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")


def check_layer(
    layer_class, arguments, dim, output_dim, keeps_float32, path, positions=()
):
    """Puts a layer through what a user may do with it.

    Args:
        layer_class: the layer, of (batch, *positions, dim) input.
        arguments: those of its constructor.
        dim: size of its input.
        output_dim: size of its output.
        keeps_float32: whether the output is float32 under half precision too.
        path: a folder for saved models.
        positions: the axes that it pools.
    """
    shape = (*positions, dim)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, *shape)).astype(np.float32)

    layer = layer_class(**arguments)
    config = json.loads(json.dumps(layer.get_config()))
    assert layer_class.from_config(config).get_config() == layer.get_config()
    described = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    again = keras.saving.deserialize_keras_object(described)
    assert isinstance(again, layer_class)
    assert again.get_config() == layer.get_config()

    assert layer.compute_output_shape((None, *shape)) == (None, output_dim)
    inputs = keras.Input(shape)
    outputs = layer(keras.layers.Dense(dim)(inputs))
    assert outputs.shape == (None, output_dim)
    model = keras.Model(inputs, outputs)
    before = model.predict(x, verbose=0)
    assert before.shape == (12, output_dim)
    assert before.dtype == dtype_name(outputs.dtype) == "float32"

    target = layer_class(**arguments)(rng.normal(size=(12, *shape)).astype(np.float32))
    target = ops.convert_to_numpy(target)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    losses = model.fit(x, target, 12, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]

    model.save(path / "model.keras")
    loaded = keras.saving.load_model(path / "model.keras")
    trained = model.predict(x, verbose=0)
    assert np.abs(trained - before).max() > 1e-4
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), trained)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(x, verbose=0), trained)

    sequence = keras.Input((3, *shape))
    steps = keras.Model(sequence, keras.layers.TimeDistributed(layer)(sequence))
    assert steps.output_shape == (None, 3, output_dim)
    found = steps.predict(x.reshape(4, 3, *shape), verbose=0)
    expected = ops.convert_to_numpy(layer(x)).reshape(4, 3, output_dim)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)

    for policy in HALF:
        half = layer_class(**arguments, dtype=policy)
        symbolic = half(keras.Input(shape))
        half.set_weights(layer.get_weights())
        exact = ops.convert_to_numpy(layer(x))
        output = half(x)
        dtype = "float32" if keeps_float32 else half.compute_dtype
        assert dtype_name(output.dtype) == dtype
        assert symbolic.dtype == dtype
        assert symbolic.shape == (None, output_dim)
        output = ops.convert_to_numpy(ops.cast(output, "float32"))
        np.testing.assert_allclose(output, exact, atol=0.02 * np.abs(exact).max())
