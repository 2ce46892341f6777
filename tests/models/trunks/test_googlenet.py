import numpy as np
import pytest

from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.googlenet import googlenet
from tests.models import torch_parity
from tests.models import torch_peers

LEFT_OUT = ("fc", "aux1", "aux2")


@pytest.fixture(scope="module")
def peer():
    return torch_parity.scramble(torch_peers.googlenet())


def build(peer, shape):
    model = googlenet((*shape, 3))
    load_torch_weights(model, torch_parity.tensors_of(peer), "peer", LEFT_OUT)
    return model


def preprocessed(pixels):
    """The published preprocessing, which the network then transforms."""
    weights = torch_peers.torchvision_models().GoogLeNet_Weights.IMAGENET1K_V1
    preset = weights.transforms()
    return torch_parity.normalized(pixels / 255, preset.mean, preset.std)


# Together they pad and don't pad each of the pools that round up.
@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 97), (75, 101), (15, 17)])
def test_every_layer_equals_torchvision(shape, peer):
    pixels = torch_parity.noise(2, *shape)
    compared = torch_parity.assert_every_layer_equals_its_module(
        build(peer, shape), peer, preprocessed(pixels), pixels
    )
    assert compared >= torch_parity.modules_with_weights(peer, but=LEFT_OUT)
    assert compared >= {f"inception{block}" for block in ("3a", "3b", "4e", "5b")}
    assert compared >= {f"maxpool{pool}" for pool in (1, 2, 3, 4)}


def test_training_mode_equals_torchvision_at_batch_statistics(peer):
    pixels = torch_parity.noise(6, 112, 97)
    found = build(peer, (112, 97))(pixels, training=True)
    expected = torch_parity.outputs_of(peer.train(), preprocessed(pixels))
    torch_parity.assert_equal_features(found, expected["inception5b"], 1e-3, "5b")


@pytest.mark.parametrize(
    ("shape", "features"), [((224, 224), (7, 7)), ((225, 256), (7, 8))]
)
def test_sides_of_the_features(shape, features):
    assert googlenet((*shape, 3)).output_shape == (None, *features, 1024)


def test_batch_norm_has_torchvisions_settings():
    assert torch_parity.batch_norm_settings(googlenet((32, 32, 3))) == {(0.9, 1e-3)}


@pytest.mark.parametrize("name", ["conv1-conv", "inception5b-branch2-1-conv"])
def test_weights_start_as_torchvisions_do(name):
    spread, largest, *_ = torch_parity.kernel_spread(googlenet((32, 32, 3)), name)
    np.testing.assert_allclose(spread, 0.01, 0.03)
    assert largest > 0.03, "not truncated"


@pytest.mark.parametrize("shape", [(14, 224, 3), (224, 14, 3)])
def test_images_too_small_are_refused(shape):
    with pytest.raises(ValueError, match=r"at least 15×15 .* input_shape \(.*14"):
        googlenet(shape)
