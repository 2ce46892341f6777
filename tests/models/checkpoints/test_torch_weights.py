import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml._ops import weight_path
from keras_dml.models._checkpoints.torch_weights import load_torch_weights


def small_model(name="small"):
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, (1, 3), name="stem-conv")(inputs)
    x = keras.layers.BatchNormalization(name="stem-bn")(x)
    x = keras.layers.DepthwiseConv2D((3, 2), use_bias=False, name="depth")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, name="blocks-0-linear")(x)
    return keras.Model(inputs, x, name=name)


SHAPES = {
    "stem.conv.weight": (4, 3, 1, 3),
    "stem.conv.bias": (4,),
    "stem.bn.weight": (4,),
    "stem.bn.bias": (4,),
    "stem.bn.running_mean": (4,),
    "stem.bn.running_var": (4,),
    "depth.weight": (4, 1, 3, 2),
    "blocks.0.linear.weight": (5, 4),
    "blocks.0.linear.bias": (5,),
}


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1, shape) for name, shape in SHAPES.items()}


def weights_of(model):
    return {
        weight_path(weight): ops.convert_to_numpy(weight) for weight in model.weights
    }


def assert_refused(tensors, message, **options):
    model = small_model()
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        load_torch_weights(model, tensors, "file.pth", **options)
    for path, weight in weights_of(model).items():
        np.testing.assert_array_equal(weight, before[path])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_tensor_arrives_with_its_axes_in_keras_order(dtype, tensors):
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    model = small_model()
    load_torch_weights(model, tensors, "file.pth")
    found = weights_of(model)
    assert all(weight.dtype == np.float32 for weight in found.values())
    out, channel, row, column = 3, 2, 0, 1
    kernel = tensors["stem.conv.weight"]
    assert found["stem-conv/kernel"][row, column, channel, out] == np.float32(
        kernel[out, channel, row, column]
    )
    assert found["depth/kernel"][2, 1, 3, 0] == np.float32(
        tensors["depth.weight"][3, 0, 2, 1]
    )
    assert found["blocks-0-linear/kernel"][1, 4] == np.float32(
        tensors["blocks.0.linear.weight"][4, 1]
    )
    for path, name in {
        "stem-conv/bias": "stem.conv.bias",
        "stem-bn/gamma": "stem.bn.weight",
        "stem-bn/beta": "stem.bn.bias",
        "stem-bn/moving_mean": "stem.bn.running_mean",
        "stem-bn/moving_variance": "stem.bn.running_var",
        "blocks-0-linear/bias": "blocks.0.linear.bias",
    }.items():
        np.testing.assert_array_equal(found[path], tensors[name].astype(np.float32))


def test_model_s_name_before_a_layer_s_is_not_part_of_the_module_s(tensors):
    inputs = keras.Input((6, 6, 4))
    outputs = keras.layers.DepthwiseConv2D((3, 2), use_bias=False, name="small-_depth")(
        inputs
    )
    model = keras.Model(inputs, outputs, name="small")
    load_torch_weights(model, {"_depth.weight": tensors["depth.weight"]}, "file.pth")
    (kernel,) = model.get_weights()
    expected = tensors["depth.weight"].transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(kernel, expected.astype(np.float32))


@pytest.mark.parametrize("name", SHAPES)
def test_missing_tensor_is_named(name, tensors):
    del tensors[name]
    assert_refused(tensors, rf"file\.pth .* of small\. missing: {name}\. ")


@pytest.mark.parametrize(
    "name",
    [
        "fc.weight",
        "stem.conv.weights",
        "stem.conv.num_batches_tracked",
        "aux.num_batches_tracked",
        "fcx.weight",
    ],
)
def test_unknown_tensor_is_named(name, tensors):
    tensors[name] = np.zeros(3)
    ignored_modules = () if name == "fc.weight" else ("fc",)
    assert_refused(tensors, rf"unknown: {name}\. ", ignored_modules=ignored_modules)


@pytest.mark.parametrize("shape", [(4, 3, 3, 1), (3, 4, 1, 3), (36,), (1, 4, 3, 1, 3)])
def test_misshapen_tensor_is_named_with_both_shapes(shape, tensors):
    tensors["stem.conv.weight"] = np.zeros(shape)
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    assert_refused(tensors, rf"stem\.conv\.weight {shown}, not \(4, 3, 1, 3\)")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_tensor_that_is_not_finite_in_float32_is_named(value, tensors):
    tensors["stem.bn.running_var"][2] = value
    assert_refused(tensors, r"not finite: stem\.bn\.running_var\. ")


def test_all_that_is_wrong_is_said_at_once(tensors):
    del tensors["stem.bn.bias"]
    tensors["head.weight"] = np.zeros(3)
    tensors["depth.weight"] = np.zeros((4, 3, 2))
    tensors["blocks.0.linear.bias"][0] = np.nan
    assert_refused(
        tensors,
        r"missing: stem\.bn\.bias; unknown: head\.weight; of another shape: "
        r"depth\.weight .*; not finite: blocks\.0\.linear\.bias\.",
    )


def test_long_lists_are_cut_with_their_length(tensors):
    tensors |= {f"extra{i}": np.zeros(1) for i in range(13)}
    assert_refused(tensors, r"unknown: extra0, .*extra9 and 3 more")


def test_ignored_modules_and_counters_are_ignored(tensors):
    given = {
        **tensors,
        "fc.weight": np.full((3, 5), np.nan),
        "aux1.conv.bn.num_batches_tracked": np.array(7),
        "stem.bn.num_batches_tracked": np.array(7),
    }
    model, bare = small_model(), small_model()
    load_torch_weights(model, given, "file.pth", ignored_modules=("fc", "aux1"))
    load_torch_weights(bare, tensors, "file.pth")
    expected = weights_of(bare)
    for path, weight in weights_of(model).items():
        np.testing.assert_array_equal(weight, expected[path])


def test_layer_of_another_kind_is_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.LayerNormalization(name="norm")(inputs))
    with pytest.raises(TypeError, match=r"'norm' of type LayerNormalization"):
        load_torch_weights(model, {}, "file.pth")
