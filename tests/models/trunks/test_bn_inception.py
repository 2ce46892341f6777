import numpy as np
import pytest

from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.bn_inception import bn_inception
from tests.models import torch_parity
from tests.models import torch_peers


@pytest.fixture(scope="module")
def peer():
    return torch_parity.scramble(torch_peers.bn_inception())


def build(peer, shape):
    model = bn_inception((*shape, 3))
    load_torch_weights(model, torch_parity.tensors_of(peer), "peer", ("last_linear",))
    return model


def preprocessed(pixels):
    """The published preprocessing."""
    module = torch_peers.bn_inception_module()
    settings = module.pretrained_settings["bninception"]["imagenet"]
    assert settings["input_space"] == "BGR"
    assert settings["input_range"] == [0, 255]
    bgr = pixels[..., [2, 1, 0]]
    return torch_parity.normalized(bgr, settings["mean"], settings["std"])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 97), (134, 31)])
def test_every_layer_equals_pretrainedmodels(shape, peer):
    pixels = torch_parity.noise(2, *shape)
    model, inputs = build(peer, shape), preprocessed(pixels)
    compared = torch_parity.assert_every_layer_equals_its_module(
        model, peer, inputs, pixels
    )
    assert compared >= torch_parity.modules_with_weights(peer, but=("last_linear",))
    assert {name for name in compared if name.endswith("_pool")} == {
        f"inception_{block}_pool"
        for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    }
    # The blocks' outputs are no modules; each but the last feeds modules compared.
    features = torch_parity.outputs_of(peer, inputs)["features"]
    found = model(pixels, training=False)
    torch_parity.assert_equal_features(found, features, 3e-5, "features")


def test_training_mode_equals_pretrainedmodels_at_batch_statistics(peer):
    pixels = torch_parity.noise(6, 96, 97)
    found = build(peer, (96, 97))(pixels, training=True)
    expected = torch_parity.outputs_of(peer.train(), preprocessed(pixels))
    torch_parity.assert_equal_features(found, expected["features"], 1e-3, "features")


@pytest.mark.slow
@pytest.mark.parametrize("side", [22, 30, 31, 38, 39, 62, 63, 70, 71, 80])
def test_sides_refused_are_those_that_pytorch_fails_at(side, peer):
    inputs = preprocessed(torch_parity.noise(1, 64, side))
    if side in (31, 38, 63, 70):
        features = torch_parity.outputs_of(peer.eval(), inputs)["features"]
        model = bn_inception((64, side, 3))
        assert model.output_shape[1:] == features.shape[1:]
    else:
        with pytest.raises(RuntimeError):
            torch_parity.outputs_of(peer.eval(), inputs)
        for shape in (64, side, 3), (side, 64, 3):
            with pytest.raises(ValueError, match=rf"input_shape \({shape[0]}, "):
                bn_inception(shape)


@pytest.mark.parametrize("side", [224, 227, 256])
def test_usual_sides_are_taken(side):
    shape = (None, (side + 1) // 32, (side + 1) // 32, 1024)
    assert bn_inception((side, side, 3)).output_shape == shape


def test_batch_norm_has_pytorch_settings():
    assert torch_parity.batch_norm_settings(bn_inception((32, 32, 3))) == {(0.9, 1e-5)}


@pytest.mark.parametrize("name", ["conv2_3x3", "inception_5b_double_3x3_2"])
def test_weights_start_as_pytorchs_do(name):
    model = bn_inception((32, 32, 3))
    spread, largest, fan_in, _ = torch_parity.kernel_spread(model, name)
    bound = 1 / np.sqrt(fan_in)
    np.testing.assert_allclose([spread, largest], [bound / 3**0.5, bound], 0.02)
    assert not np.any(model.get_layer(name).bias)
