"""The counts that the loaders demand are those of the paper's table."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("loader", "counts"),
    [
        ("cub200", {"train": (100, 5_864), "test": (100, 5_924)}),
        ("cars196", {"train": (98, 8_054), "test": (98, 8_131)}),
        (
            "stanford_online_products",
            {"train": (11_318, 59_551), "test": (11_316, 60_502)},
        ),
        (
            "in_shop",
            {
                "train": (3_997, 25_882),
                "query": (3_985, 14_218),
                "gallery": (3_985, 12_612),
            },
        ),
    ],
)
def test_official_counts_are_the_papers(loader, counts):
    # The package's attribute of that name is the function.
    found = dict(importlib.import_module(f"keras_dml.data.{loader}").OFFICIAL_COUNTS)
    for part, (classes, images) in counts.items():
        assert found.pop(f"{part} classes") == classes
        assert found.pop(f"{part} images") == images
    assert found == ({"test classes": 3_985} if loader == "in_shop" else {})
