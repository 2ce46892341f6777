import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.optimizers import layer_wise_decay

HALF = 0.5


def by_path(multipliers):
    """The multiplier of each variable by its path."""
    return {
        v.path: multiplier for variables, multiplier in multipliers for v in variables
    }


def beit_multiplier(path, blocks, decay):
    """What `get_num_layer_for_vit` of BEiT's released code makes of a variable."""
    if "patching_and_embedding" in path:
        number = 0
    elif "transformer_block_" in path:
        number = int(path.split("transformer_block_")[1].split("/")[0])
    else:
        number = blocks + 1
    return decay ** (blocks + 1 - number)


def vit(blocks):
    hub = pytest.importorskip("keras_hub")
    return hub.models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=8,
        num_layers=blocks,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
    )


@pytest.mark.parametrize("blocks", [2, 5])
def test_vision_transformer_has_the_multipliers_of_beit(blocks):
    backbone = vit(blocks)
    found = by_path(layer_wise_decay(backbone, 0.75))
    assert set(found) == {v.path for v in backbone.trainable_variables}
    for path, multiplier in found.items():
        assert multiplier == pytest.approx(beit_multiplier(path, blocks, 0.75)), path


def test_backbone_within_other_models_is_taken_apart():
    backbone = vit(3)
    images = keras.Input((16, 16, 3))
    tokens = backbone(keras.layers.Rescaling(1 / 255)(images))
    outer = embedding_model(keras.Model(images, tokens[:, 0]), dim=4)
    found = by_path(layer_wise_decay(outer, 0.75))
    for variable in backbone.trainable_variables:
        if "transformer_block" in variable.path or "embedding" in variable.path:
            inner = beit_multiplier(variable.path, 3, 0.75)
            # The linear map on top of it is one block more.
            assert found[variable.path] == pytest.approx(0.75 * inner), variable.path


# From the papers' tables: the first convolution belongs to the first block.
RESIDUAL = {"ResNet50": 3 + 4 + 6 + 3, "ResNet50V2": 3 + 4 + 6 + 3}


@pytest.mark.parametrize(
    "name", [pytest.param("ResNet50", marks=pytest.mark.slow), "ResNet50V2"]
)
def test_residual_network_falls_by_the_block(name):
    network = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    blocks = RESIDUAL[name]
    found = by_path(layer_wise_decay(network, 0.9))
    assert len(found) == len(network.trainable_variables)
    order = [(2, 3), (3, 4), (4, 6), (5, 3)]
    prefixes = [f"conv{s}_block{b}_" for s, n in order for b in range(1, n + 1)]
    for path, multiplier in found.items():
        known = [i for i, prefix in enumerate(prefixes) if path.startswith(prefix)]
        if known:
            assert multiplier == pytest.approx(0.9 ** (blocks - known[0])), path
    first = found["conv1_conv/kernel"]
    assert first == pytest.approx(0.9**blocks)
    if name == "ResNet50V2":  # a batch norm after the last block
        assert found["post_bn/gamma"] == 1


def test_chain_of_convolutions_falls_by_the_convolution():
    network = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    found = layer_wise_decay(network, HALF)
    assert [multiplier for _, multiplier in found] == [
        HALF**n for n in range(13, 0, -1)
    ]
    for variables, _ in found:
        assert [v.name for v in variables] == ["kernel", "bias"]


def test_scale_and_offset_go_with_their_convolution():
    found = layer_wise_decay(trunk("conv4", (28, 28, 3)), HALF)
    assert [multiplier for _, multiplier in found] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    assert [len(variables) for variables, _ in found] == [3, 3, 3, 3]


@pytest.mark.parametrize(
    "name",
    [
        "googlenet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("efficientnet_lite0", "resnet50")
        ),
    ],
)
def test_every_variable_occurs_once_and_multipliers_rise(name):
    network = trunk(name, (64, 64, 3))
    found = layer_wise_decay(network, 0.8)
    ids = [id(variable) for variables, _ in found for variable in variables]
    assert sorted(ids) == sorted(map(id, network.trainable_variables))
    multipliers = [multiplier for _, multiplier in found]
    assert multipliers == sorted(set(multipliers))
    assert multipliers[-1] == pytest.approx(0.8)


def test_decay_of_1_is_1_everywhere():
    found = by_path(layer_wise_decay(trunk("conv4", (28, 28, 3)), 1))
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("decay", [0, -0.5, 1.1, None, np.nan, True])
def test_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay must be .*got {decay}"):
        layer_wise_decay(trunk("conv4", (28, 28, 3)), decay)


def test_layer_in_place_of_a_model_is_refused():
    with pytest.raises(ValueError, match=r"trunk must be a keras\.Model; got <"):
        layer_wise_decay(keras.layers.Dense(3), 0.5)


pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="variables have no path on Keras 2")
