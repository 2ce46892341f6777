"""Image files for PyTorch's DataLoader, in a file that imports no TensorFlow.

Each worker of the loader imports it anew.
"""

import numpy as np
import torch
from PIL import Image


class TorchFolder(torch.utils.data.Dataset):
    """Image files, resized with Pillow and cropped, as (3, side, side) uint8.

    Args:
        paths: the files.
        resize: side in pixels that images are resized to, without keeping the aspect.
        image_size: side of the center crop.
    """

    def __init__(self, paths: list[str], resize: int, image_size: int):
        self.paths = paths
        self.resize = resize
        self.border = (resize - image_size) // 2

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        with Image.open(self.paths[row]) as image:
            small = image.convert("RGB").resize(
                (self.resize, self.resize), Image.Resampling.BILINEAR
            )
        kept = slice(self.border, self.resize - self.border)
        pixels = np.asarray(small)[kept, kept]
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
