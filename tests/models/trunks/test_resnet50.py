import numpy as np
import pytest

from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.resnet50 import resnet50
from tests.models import torch_parity
from tests.models import torch_peers


@pytest.fixture(scope="module")
def peer():
    return torch_parity.scramble(torch_peers.resnet50())


def build(peer, shape):
    model = resnet50((*shape, 3))
    load_torch_weights(model, torch_parity.tensors_of(peer), "peer", ("fc",))
    return model


def preprocessed(pixels):
    """The published preprocessing."""
    weights = torch_peers.torchvision_models().ResNet50_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    return torch_parity.normalized(pixels / 255, preset.mean, preset.std)


@pytest.mark.parametrize("shape", [(64, 97), (101, 50)])
def test_every_layer_equals_torchvision(shape, peer):
    pixels = torch_parity.noise(2, *shape)
    compared = torch_parity.assert_every_layer_equals_its_module(
        build(peer, shape), peer, preprocessed(pixels), pixels
    )
    assert compared >= torch_parity.modules_with_weights(peer, but=("fc",))
    assert compared >= {"maxpool", "layer1.0", "layer2.3", "layer3.5", "layer4.2"}


@pytest.mark.slow
def test_training_mode_equals_torchvision_at_batch_statistics(peer):
    pixels = torch_parity.noise(6, 64, 97)
    found = build(peer, (64, 97))(pixels, training=True)
    expected = torch_parity.outputs_of(peer.train(), preprocessed(pixels))["layer4"]
    # Errors grow as each of 53 batch norms divides by what it measures.
    torch_parity.assert_equal_features(found, expected, 1e-3, "layer4")


@pytest.mark.parametrize(
    ("shape", "features"),
    [((224, 224), (7, 7)), ((225, 256), (8, 8)), ((1, 33), (1, 2))],
)
def test_sides_are_divided_by_32_and_rounded_up(shape, features):
    assert resnet50((*shape, 3)).output_shape == (None, *features, 2048)


def test_batch_norm_has_pytorch_settings():
    assert torch_parity.batch_norm_settings(resnet50((32, 32, 3))) == {(0.9, 1e-5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv1", "layer3-0-conv2", "layer4-0-downsample-0"])
def test_weights_start_as_torchvisions_do(name):
    spread, _, _, fan_out = torch_parity.kernel_spread(resnet50((32, 32, 3)), name)
    np.testing.assert_allclose(spread, np.sqrt(2 / fan_out), 0.03)
