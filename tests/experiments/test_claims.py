import pytest

from experiments._lib.check_config import check_config
from experiments._studies.claims import CLAIMS
from experiments._studies.claims import variants_of
from experiments.configs import omniglot
from experiments.configs.recipe import recipe


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_config_as_it_is_stands_among_its_variants_once(claim):
    variants = variants_of(claim, omniglot.get_config(), num_classes=136)
    assert [variant.name for variant in variants].count("as_is") == 1
    assert len({variant.name for variant in variants}) == len(variants) > 1


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_variant_is_a_right_config_with_the_batch_as_large(claim):
    for variant in variants_of(claim, omniglot.get_config(), num_classes=136):
        config = omniglot.get_config()
        config.update(variant.overrides)
        check_config(config)
        assert config.classes * config.images_per_class == 75


def test_values_of_the_papers_recipe():
    found = {
        claim: [variant.label for variant in variants_of(claim, recipe(), 100)]
        for claim in CLAIMS
    }
    assert found == {
        "layer normalization": ["with", "without"],
        "temperature": ["0.0125", "0.025", "0.05", "0.1", "0.2"],
        "images per class": ["1", "3", "5", "15", "25"],
        "dimension": ["128", "256", "512", "1024", "2048"],
        "sampling": ["class-balanced", "plain"],
        "sampled classes": ["100 %", "50 %", "25 %", "10 %", "5 %"],
    }


def test_images_per_class_that_need_more_classes_than_there_are_are_left_out():
    variants = variants_of("images per class", recipe(), num_classes=20)
    assert [variant.overrides for variant in variants] == [
        {},
        {"images_per_class": 15, "classes": 5},
        {"images_per_class": 25, "classes": 3},
    ]
