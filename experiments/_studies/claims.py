"""The paper's claims, each as variants of a config in one setting."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

_FACTORS = (0.25, 0.5, 1, 2, 4)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config with some settings changed.

    Args:
        label: the value in tables and plots.
        overrides: {setting: value}; empty for the config as it is.
    """

    label: str
    overrides: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The changed settings, to be used in a file name; "as_is" for none."""
        changes = [f"{name}={value}" for name, value in self.overrides.items()]
        return ",".join(changes) or "as_is"


def _layer_norm(config, num_classes):
    return [("with", {"layer_norm": True}), ("without", {"layer_norm": False})]


def _temperature(config, num_classes):
    values = [float(f"{config.temperature * factor:.6g}") for factor in _FACTORS]
    return [(f"{value:g}", {"temperature": value}) for value in values]


def _images_per_class(config, num_classes):
    batch = config.classes * config.images_per_class
    return [
        (f"{images}", {"images_per_class": images, "classes": batch // images})
        for images in range(1, batch)
        if batch % images == 0 and batch // images <= num_classes
    ]


def _dim(config, num_classes):
    values = sorted({max(1, round(config.dim * factor)) for factor in _FACTORS})
    return [(f"{value}", {"dim": value}) for value in values]


def _sampling(config, num_classes):
    return [("class-balanced", {"balanced": True}), ("plain", {"balanced": False})]


def _sampled_classes(config, num_classes):
    shares = sorted({1.0, 0.5, 0.25, 0.1, 0.05, config.sampled_classes}, reverse=True)
    return [(f"{100 * share:g} %", {"sampled_classes": share}) for share in shares]


CLAIMS = {
    "layer normalization": _layer_norm,
    "temperature": _temperature,
    "images per class": _images_per_class,
    "dimension": _dim,
    "sampling": _sampling,
    "sampled classes": _sampled_classes,
}
"""The claims, in the order of the tables."""


def variants_of(
    claim: str, config: ml_collections.ConfigDict, num_classes: int
) -> list[Variant]:
    """The variants of a config that test a claim, the config as it is among them.

    Temperatures and dimensions are ¼, ½, 1, 2 and 4 times the config's. Images per
    class are all that divide the config's batch into two classes or more, of which
    there are enough to train on; the batch stays as large.

    Args:
        claim: a key of `CLAIMS`.
        config: the settings to vary.
        num_classes: the number of training classes.

    Returns:
        The variants, in the order of the table.
    """
    return [
        Variant(label, {k: v for k, v in changes.items() if config[k] != v})
        for label, changes in CLAIMS[claim](config, num_classes)
    ]
