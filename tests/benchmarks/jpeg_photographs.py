"""JPEG files to decode, as benchmarks take them for photographs."""

import io

import numpy as np
from PIL import Image


def jpeg_photographs(count):
    """The bytes of 500×400 JPEG files of smooth noise, at quality 90."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (20, 25, 3), np.uint8))
        stream = io.BytesIO()
        coarse.resize((500, 400), Image.Resampling.BICUBIC).save(
            stream, "JPEG", quality=90
        )
        contents.append(stream.getvalue())
    return contents
