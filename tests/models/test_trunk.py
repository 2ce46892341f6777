import functools
import gc
import inspect
import re

import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.models import TRUNKS
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.applications import APPLICATIONS
from tests.gradients import gradients
from tests.models import torch_parity
from tests.models import torch_peers

# `trunk` is a function too, which hides the module of its name.
MODULE = inspect.getmodule(trunk)

# The modules of the published network that the trunk goes without.
PUBLISHED = {
    "resnet50": ("fc",),
    "googlenet": ("fc", "aux1", "aux2"),
    "bn_inception": ("last_linear",),
    "efficientnet_lite0": ("_fc",),
}


def pixels(side, seed=0):
    """Two images of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, side, side, 3)).astype("float32")


def test_trunks_are_ours_and_every_other_model_of_keras_applications():
    constructors = [
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    ]
    assert len(constructors) > 30
    ours = ["conv4", *PUBLISHED, "efficientnet_lite1", "efficientnet_lite2"]
    assert TRUNKS[: len(ours)] == tuple(ours)
    assert set(TRUNKS) == {*ours, *map(str.lower, constructors)}
    assert len(set(TRUNKS)) == len(TRUNKS) == len(constructors) + len(ours) - 1


@pytest.mark.parametrize(
    "name",
    [
        "conv4",
        pytest.param("mobilenetv3small", marks=pytest.mark.slow),
        pytest.param("googlenet", marks=pytest.mark.slow),
    ],
)
def test_weights_file_is_read_back(name, tmp_path):
    keras.utils.set_random_seed(0)
    saved = trunk(name, (32, 32, 3))
    saved.set_weights(
        [weight + 0.01 * i for i, weight in enumerate(saved.get_weights())]
    )
    file = tmp_path / "trunk.weights.h5"
    saved.save_weights(file)
    loaded = trunk(name, (32, 32, 3), weights=str(file))
    for found, expected in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert loaded.predict(pixels(32), verbose=0).shape[0] == 2


@functools.cache
def scrambled(name):
    """One of the paper's trunks and the peer that it has its weights from."""
    peer = torch_parity.scramble(getattr(torch_peers, name)()).eval()
    model = trunk(name, (64, 64, 3))
    tensors = torch_parity.tensors_of(peer)
    load_torch_weights(model, tensors, "peer", PUBLISHED[name])
    return model, peer


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_state_dict_file_and_imagenet_fill_the_whole_trunk(name, tmp_path, monkeypatch):
    expected, peer = scrambled(name)
    import torch

    file = str(tmp_path / "whole.pth")
    torch.save(peer.state_dict(), file)
    from_file = trunk(name, (64, 64, 3), file)
    monkeypatch.setattr(MODULE, "download_checkpoint", lambda url: file)
    monkeypatch.setattr(MODULE, "efficientnet_lite_checkpoint", lambda name: file)
    from_imagenet = trunk(name, (64, 64, 3), "imagenet")
    for model in from_file, from_imagenet:
        for found, wanted in zip(model.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_networks_but_for_what_is_left_out(name):
    model, peer = scrambled(name)
    *_, ignored_modules = MODULE._TORCH_TRUNKS[name]
    assert ignored_modules == PUBLISHED[name]
    kept = [
        parameter.numel()
        for path, parameter in peer.named_parameters()
        if path.split(".")[0] not in PUBLISHED[name]
    ]
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == sum(kept)
    assert len(model.trainable_weights) == len(kept)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("resnet50", "ResNet50_Weights"), ("googlenet", "GoogLeNet_Weights")],
)
def test_imagenet_weights_are_those_of_torchvisions_first_recipe(name, weights):
    entry = getattr(torch_peers.torchvision_models(), weights).IMAGENET1K_V1
    _, url, _ = MODULE._TORCH_TRUNKS[name]
    assert url == entry.url
    # Its count is that of the network with one classifier of 1,000 classes.
    model, _ = scrambled(name)
    features = model.output_shape[-1]
    count = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert count + 1000 * (features + 1) == entry.meta["num_params"]


def test_imagenet_weights_of_bn_inception_are_those_of_pretrainedmodels():
    settings = torch_peers.bn_inception_module().pretrained_settings["bninception"]
    _, url, _ = MODULE._TORCH_TRUNKS["bn_inception"]
    assert url == settings["imagenet"]["url"]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("resnet50", "layer2.0.downsample.0.weight"),
        ("googlenet", "inception4b.branch2.1.conv.weight"),
        ("bn_inception", "inception_4e_double_3x3_2.weight"),
    ],
)
def test_state_dict_that_does_not_fit_is_refused_by_name(name, tensor):
    model, peer = scrambled(name)
    tensors = torch_parity.tensors_of(peer)
    before = model.get_weights()
    without = {one: value for one, value in tensors.items() if one != tensor}
    for changed, message in (
        (without, f"missing: {tensor}."),
        ({**tensors, "layer9.weight": np.zeros(3)}, "unknown: layer9.weight."),
        ({**tensors, tensor: tensors[tensor][1:]}, f"of another shape: {tensor} "),
        ({**tensors, tensor: tensors[tensor] * np.nan}, f"not finite: {tensor}."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load_torch_weights(model, changed, "file", PUBLISHED[name])
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_checkpoint_of_another_network_is_refused_with_its_path(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch writes the file")
    file = str(tmp_path / "other.pth")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)
    message = rf"{file} does not hold the weights of googlenet\. missing: conv1\."
    with pytest.raises(ValueError, match=message):
        trunk("googlenet", (64, 64, 3), file)


@pytest.mark.parametrize("name", PUBLISHED)
def test_gradients_reach_every_parameter(name):
    model, _ = scrambled(name)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=model.output_shape[1:]).astype("float32")

    def loss(features):
        return ops.sum(features * ops.convert_to_tensor(weights))

    found = gradients(model, loss, pixels(64))
    assert len(found) == 1 + len(model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, found[1:], strict=True):
        assert np.isfinite(gradient).all(), weight.name
        assert gradient.any(), weight.name


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_papers_trunk_is_saved_and_loaded(name, tmp_path):
    model, _ = scrambled(name)
    model.save(tmp_path / "trunk.keras")
    loaded = keras.saving.load_model(tmp_path / "trunk.keras")
    found = loaded.predict_on_batch(pixels(64))
    np.testing.assert_array_equal(found, model.predict_on_batch(pixels(64)))
    assert np.std(found[..., 0]) > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_embedding_is_finite_in_half_precision(name):
    model, _ = scrambled(name)
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = embedding_model(trunk(name, (64, 64, 3)), model.output_shape[-1])
    finally:
        keras.mixed_precision.set_global_policy(before)
    half.set_weights(model.get_weights())
    found = ops.convert_to_numpy(half(pixels(64), training=False))
    expected = embedding_model(model, model.output_shape[-1])(pixels(64))
    cosines = np.sum(found * ops.convert_to_numpy(expected), axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


def test_pytorch_checkpoint_of_another_trunk_is_refused(tmp_path):
    file = tmp_path / "conv4.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"which only resnet50, .* take; conv4 takes"):
        trunk("conv4", (28, 28, 3), weights=str(file))


def test_random_weights_differ_between_trunks():
    first, second = (trunk("conv4", (16, 16, 3)).get_weights()[0] for _ in range(2))
    assert (first != second).any()


def test_missing_weights_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.weights\.h5'"):
        trunk("conv4", (28, 28, 3), weights="nowhere.weights.h5")


@pytest.mark.parametrize("suffix", ["weights.h5", "keras", "txt"])
@pytest.mark.parametrize("damage", ["cut off", "of another trunk", "not weights"])
def test_keras_weights_that_do_not_fit_are_refused_in_one_line(
    suffix, damage, tmp_path, recwarn
):
    saved = tmp_path / f"saved.{suffix}"
    other = keras.Sequential([keras.Input((9, 9, 3)), keras.layers.Conv2D(5, 2)])
    if damage == "not weights" or suffix == "txt":
        saved.write_text("<!DOCTYPE html>")
    elif suffix == "keras":
        other.save(saved)
    else:
        other.save_weights(saved)
    if damage == "cut off":
        saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"'{saved}' does not hold .* of conv4") as no:
        trunk("conv4", (28, 28, 3), weights=str(saved))
    assert "\n" not in str(no.value)
    assert not [one for one in recwarn if "load" in str(one.message)]


def test_imagenet_weights_of_conv4_are_refused():
    with pytest.raises(ValueError, match="conv4 has no ImageNet weights"):
        trunk("conv4", (28, 28, 3), weights="imagenet")


@pytest.mark.parametrize("name", ["ResNet50", "resnet", ""])
def test_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=f"one of conv4.*resnet50, .*got {name!r}"):
        trunk(name)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (2, 28, 28, 3)])
def test_shape_that_is_not_of_rgb_images_is_refused(shape):
    message = re.escape(f"input_shape must be (height, width, 3); got {shape}")
    with pytest.raises(ValueError, match=message):
        trunk("conv4", shape)


@pytest.mark.parametrize("side", [0, -28, 28.0, True, None])
def test_side_that_is_no_number_of_pixels_is_refused(side):
    message = f"the {{}}, must be an integer of at least 1; got {side}"
    with pytest.raises(ValueError, match=message.format("height")):
        trunk("conv4", (side, 28, 3))
    with pytest.raises(ValueError, match=message.format("width")):
        trunk("conv4", (28, side, 3))


# Members of a family of Keras differ in depth and width. ResNet-50 is one of ours. Of
# each kind of preprocessing the quickest comes first.
SMALLEST_OF_KERAS = (
    *("vgg16", "mobilenet", "densenet121", "efficientnetb0"),
    *("convnexttiny", "efficientnetv2b0", "inceptionresnetv2", "inceptionv3"),
    *("mobilenetv2", "mobilenetv3small", "nasnetmobile", "resnet101", "resnet50v2"),
    *("vgg19", "xception"),
)


def test_every_family_of_keras_is_tried():
    tried = [APPLICATIONS[name][1] for name in SMALLEST_OF_KERAS]
    assert sorted(tried) == sorted({family for _, family in APPLICATIONS.values()})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("conv4", *PUBLISHED, *SMALLEST_OF_KERAS[:4]),
        *(pytest.param(one, marks=pytest.mark.long) for one in SMALLEST_OF_KERAS[4:]),
    ],
)
def test_every_kind_of_trunk_gives_finite_features(name):
    # Inception takes no less than 75×75, BN-Inception not all sides.
    model = trunk(name, (96, 96, 3))
    features = model.predict_on_batch(pixels(96)[:1])
    assert features.shape == (1, *model.output_shape[1:])
    assert features.ndim == 4
    assert np.isfinite(features).all()
    assert features.any()
    del model
    keras.backend.clear_session()
    gc.collect()
