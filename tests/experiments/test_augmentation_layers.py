import keras
import numpy as np
import pytest

from experiments._lib.augmentation_layers import AUGMENTATION_LAYERS
from experiments._lib.augmentation_layers import augmentation_layers
from experiments._lib.build import build_batches
from experiments._lib.check_config import check_config
from experiments.configs import image_folder_paper
from keras_dml.data import class_balanced_batches


def config_with(**settings):
    config = image_folder_paper.get_config()
    config.image_size, config.resize, config.cache = 28, 32, ""
    config.classes, config.images_per_class = 2, 3
    config.update(settings)
    return config


def test_layers_are_made_with_their_arguments():
    first, second, third = augmentation_layers(
        "RandomRotation(0.05), RandomFlip, RandomTranslation(0.1, (-0.2, 0.2), "
        "fill_mode='nearest')"
    )
    assert type(first) is keras.layers.RandomRotation
    assert first.get_config()["factor"] == keras.layers.RandomRotation(0.05).factor
    assert type(second) is keras.layers.RandomFlip
    assert third.get_config()["width_factor"] == (-0.2, 0.2)
    assert third.fill_mode == "nearest"
    assert augmentation_layers("") == []


def test_layers_of_keras_that_change_one_image_are_known():
    assert {"RandomRotation", "RandomZoom", "RandomContrast"} <= set(
        AUGMENTATION_LAYERS
    )
    assert not {"Dense", "MixUp", "CutMix", "AugMix"} & set(AUGMENTATION_LAYERS)


@pytest.mark.parametrize(
    "text",
    [
        "RandomRotat(0.05)",
        "Dense(3)",
        "MixUp",
        "RandomRotation(0.05",
        "RandomRotation",
        "RandomRotation('far')",
        "RandomFlip(no_such=1)",
        "RandomFlip(__import__('os').getcwd())",
        "keras.layers.RandomFlip",
        "(lambda: 1)()",
        "RandomFlip(*[1])",
        "RandomFlip(**{})",
        "*[RandomFlip]",
        "], print(1), [",
        "RandomFlip] + [RandomFlip",
        ",",
        "3",
    ],
)
def test_what_is_no_list_of_layers_is_refused_with_its_name(text, capsys):
    config = config_with(augment=text)
    with pytest.raises(ValueError, match=r"^--config\.augment must be ") as error:
        check_config(config)
    assert str(error.value).endswith(f"got {text!r}.")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("balanced", [True, False])
def test_augment_reaches_the_batches(noise, balanced):
    plain = build_batches(config_with(balanced=balanced), noise)
    turned = config_with(balanced=balanced, augment="RandomRotation(0.2)")
    for (x, labels), (other, same_labels) in zip(
        plain, build_batches(turned, noise), strict=True
    ):
        np.testing.assert_array_equal(labels, same_labels)
        assert (x.numpy() != other.numpy()).any(axis=(1, 2, 3)).all()


def test_configured_layers_draw_as_the_functions_argument_does(noise):
    config = config_with(
        augment="RandomFlip('horizontal'), RandomTranslation(0.2, 0.2)"
    )
    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomTranslation(0.2, 0.2),
    ]
    expected = class_balanced_batches(
        noise, 2, 3, image_size=28, resize=32, flip=config.flip, augment=layers
    )
    for (x, _), (other, _) in zip(build_batches(config, noise), expected, strict=True):
        np.testing.assert_array_equal(x, other)


def test_layers_that_change_the_size_are_refused(noise):
    config = config_with(augment="RandomCrop(20, 20)")
    check_config(config)
    with pytest.raises(ValueError, match=r"augment must keep .*28 pixels.*\(20, 20, 3"):
        build_batches(config, noise)
