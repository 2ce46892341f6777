"""conv4 with the embedding head in PyTorch, written from their definition."""

import keras
import torch


class TorchConv4(torch.nn.Module):
    """Pixels from 0 to 255, (batch, 3, side, side), to (batch, 64) unit vectors."""

    def __init__(self):
        super().__init__()
        blocks = []
        for channels in (3, 64, 64, 64):
            blocks += [
                torch.nn.Conv2d(channels, 64, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(64),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            ]
        self.blocks = torch.nn.Sequential(*blocks)

    def forward(self, pixels):
        x = self.blocks(pixels / 127.5 - 1).mean((2, 3))
        x = torch.nn.functional.layer_norm(x, (64,))
        return torch.nn.functional.normalize(x)

    def load_keras(self, embedder: keras.Model) -> None:
        """Takes the weights of `embedding_model(conv4(…), 64)`."""
        norms = [layer for layer in self.blocks if hasattr(layer, "running_mean")]
        convolutions = [
            layer for layer in self.blocks if hasattr(layer, "padding_mode")
        ]
        for number, (convolution, norm) in enumerate(
            zip(convolutions, norms, strict=True), 1
        ):
            (kernel,) = embedder.get_layer(f"block{number}_conv").get_weights()
            values = embedder.get_layer(f"block{number}_batch_norm").get_weights()
            targets = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            with torch.no_grad():
                convolution.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
                for target, value in zip(targets, values, strict=True):
                    target.copy_(torch.tensor(value))
