"""The published PyTorch networks that the trunks are checked against."""

import contextlib
import importlib.util
import pathlib

import pytest


@contextlib.contextmanager
def _without_detection_operators(torch):
    """Lets torchvision declare operators that its C++ part, if not loaded, lacks.

    They belong to object detection. Where PyTorch is built without CUDA and
    torchvision with it, that part is not loaded and importing torchvision fails at
    the first of them.
    """
    declare = torch.library.register_fake

    def declare_others(name, *arguments, **options):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return declare(name, *arguments, **options)

    torch.library.register_fake = declare_others
    try:
        yield
    finally:
        torch.library.register_fake = declare


def torchvision_models():
    """The module torchvision.models; skips the test where it can't be had."""
    torch = pytest.importorskip("torch", reason="PyTorch is the peer")
    with _without_detection_operators(torch):
        pytest.importorskip("torchvision", reason="torchvision has the peer")
        return importlib.import_module("torchvision.models")


def resnet50():
    """torchvision's ResNet-50 with random weights."""
    return torchvision_models().resnet50(weights=None)


def googlenet():
    """torchvision's GoogLeNet, with what the published weights go with.

    That is its auxiliary classifiers, and pixels that it transforms itself.
    """
    return torchvision_models().googlenet(
        weights=None, aux_logits=True, transform_input=True, init_weights=False
    )


def bn_inception_module():
    """pretrainedmodels.models.bninception, without running the rest of the package."""
    pytest.importorskip("torch", reason="PyTorch is the peer")
    package = importlib.util.find_spec("pretrainedmodels")
    if package is None:
        pytest.skip("pretrainedmodels has the peer and is not installed")
    (folder,) = package.submodule_search_locations
    file = pathlib.Path(folder, "models", "bninception.py")
    spec = importlib.util.spec_from_file_location("bninception", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bn_inception():
    """BN-Inception of the package pretrainedmodels with random weights."""
    return bn_inception_module().bninception(pretrained=None)


def efficientnet_lite(name, **options):
    """A network of the package efficientnet_lite_pytorch."""
    pytest.importorskip("torch", reason="PyTorch is the peer")
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="efficientnet_lite_pytorch has the peer"
    )
    return package.EfficientNet.from_name(name.replace("_", "-"), **options)


def efficientnet_lite0():
    """EfficientNet-Lite0 of the package efficientnet_lite_pytorch."""
    return efficientnet_lite("efficientnet_lite0")
