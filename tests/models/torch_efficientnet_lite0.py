"""EfficientNet-Lite0 with the embedding head in PyTorch."""

import keras
import torch
from efficientnet_lite_pytorch import EfficientNet


class TorchEfficientNetLite0(torch.nn.Module):
    """Pixels from 0 to 255, (batch, 3, side, side), to (batch, 1280) unit vectors.

    The network is that of the package efficientnet_lite_pytorch, padded as TensorFlow
    does at every image size, without its stochastic depth, as ours has none.
    """

    def __init__(self):
        super().__init__()
        self.network = EfficientNet.from_name(
            "efficientnet-lite0", image_size=None, drop_connect_rate=0
        )
        del self.network._fc  # The classifier takes no part.

    def forward(self, pixels):
        x = self.network.extract_features((pixels - 127) / 128).mean((2, 3))
        x = torch.nn.functional.layer_norm(x, (1280,))
        return torch.nn.functional.normalize(x)

    def load_keras(self, embedder: keras.Model) -> None:
        """Takes the weights of `embedding_model` of this trunk, of 1,280 dimensions."""
        for name, module in self.network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                targets = (module.weight, module.bias)
                targets += (module.running_mean, module.running_var)
            elif isinstance(module, torch.nn.Conv2d):
                targets = (module.weight,)
            else:
                continue
            layer = embedder.get_layer(f"efficientnet_lite0-{name.replace('.', '-')}")
            axes = (2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1)
            with torch.no_grad():
                for target, value in zip(targets, layer.get_weights(), strict=True):
                    value = value.transpose(axes) if value.ndim == 4 else value
                    target.copy_(torch.tensor(value))
