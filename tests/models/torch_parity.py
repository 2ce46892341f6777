"""Comparing a trunk with its peer in PyTorch, layer by layer."""

import keras
import numpy as np

from keras_dml._ops import ops


def scramble(peer):
    """Draws all parameters and running statistics of a PyTorch network."""
    import torch

    torch.manual_seed(0)
    for module in peer.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, 0, 0.5)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 3)
    return peer


def tensors_of(peer):
    """The state dict as NumPy arrays."""
    return {name: tensor.numpy() for name, tensor in peer.state_dict().items()}


def noise(batch, height, width):
    """Random RGB pixels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, height, width, 3), np.uint8)


def normalized(pixels, mean, std):
    """A PyTorch tensor, channels first, of (pixels - mean) / std."""
    import torch

    pixels = torch.from_numpy(np.moveaxis(pixels, -1, 1).astype(np.float32))
    mean, std = (torch.tensor(one).reshape(1, 3, 1, 1) for one in (mean, std))
    return (pixels - mean) / std


def outputs_of(peer, inputs):
    """{module name: its output, channels last} of a PyTorch network.

    Where the network has a method `features`, what that gives is under "features",
    and the classifier, which may not take features of any size, is not run.
    """
    import torch

    found = {}

    def keep(name, output):
        if output.ndim == 4:
            # A copy, as a ReLU in place overwrites it.
            found[name] = output.detach().permute(0, 2, 3, 1).numpy().copy()

    handles = [
        module.register_forward_hook(
            lambda module, given, output, name=name: keep(name, output)
        )
        for name, module in peer.named_modules()
        if name and not name.startswith("aux")
    ]
    with torch.no_grad():
        if hasattr(peer, "features"):
            keep("features", peer.features(inputs))
        else:
            peer(inputs)
    for handle in handles:
        handle.remove()
    return found


def assert_every_layer_equals_its_module(model, peer, inputs, pixels):
    """Compares each layer with the PyTorch module of its name, in inference mode.

    Args:
        model: the trunk, with the peer's weights.
        peer: the PyTorch network.
        inputs: what the published preprocessing makes of the pixels for the peer.
        pixels: the trunk's input.

    Returns:
        The names of the modules compared.
    """
    expected = outputs_of(peer.eval(), inputs)
    layers = {layer.name.replace("-", "."): layer for layer in model.layers}
    names = [name for name in layers if name in expected]
    outputs = [layers[name].output for name in names]
    found = keras.Model(model.input, outputs)(pixels, training=False)
    for name, features in zip(names, found, strict=True):
        assert_equal_features(features, expected[name], 3e-5, name)
    return set(names)


def assert_equal_features(found, expected, tolerance, name):
    """Equal but for `tolerance` of the largest."""
    found = ops.convert_to_numpy(found)
    assert found.shape == expected.shape, name
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < tolerance, f"{name}: {error}"


def modules_with_weights(peer, but):
    """Names of the peer's modules that have weights of their own, but for `but`."""
    return {
        name
        for name, module in peer.named_modules()
        if list(module.parameters(recurse=False)) and name.split(".")[0] not in but
    }


def batch_norm_settings(model):
    """{(momentum, epsilon)} of all batch norms of a trunk."""
    return {
        (layer.momentum, layer.epsilon)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }


def kernel_spread(model, name):
    """A convolution's (standard deviation, largest magnitude, fan in, fan out)."""
    kernel = ops.convert_to_numpy(model.get_layer(name).kernel)
    fan_in, fan_out = kernel[..., 0].size, kernel[:, :, 0].size
    return kernel.std(), np.abs(kernel).max(), fan_in, fan_out
