"""Image files of every format, and damaged ones made from them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF)
EXTREMES += (0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def image_files():
    """Names and bytes: what Pillow can write of the five formats, 53×37 pixels."""
    row, column = np.mgrid[:37, :53]
    colors = np.stack((column * 4, row * 6, row + column * 2), axis=-1)
    noise = np.random.default_rng(0).integers(0, 30, colors.shape)
    image = Image.fromarray((colors + noise).astype(np.uint8))
    gray, palette, rgba = image.convert("L"), image.quantize(200), image.convert("RGBA")
    rgba.putalpha(gray)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 256 + 77)
    turned = image.rotate(180)
    frames = {"save_all": True, "append_images": [turned, image, turned]}
    files = {
        "JPEG": (image, {}),
        "JPEG progressive": (image, {"progressive": True}),
        "JPEG gray": (gray, {}),
        "JPEG CMYK": (image.convert("CMYK"), {}),
        "PNG": (image, {}),
        "PNG 1 bit": (image.convert("1"), {}),
        "PNG 2 bits": (image.quantize(4), {"bits": 2}),
        "PNG 4 bits": (image.quantize(16), {"bits": 4}),
        "PNG palette": (palette, {"transparency": bytes(range(200))}),
        "PNG 16 bits": (deep, {}),
        "PNG gray": (gray, {}),
        "PNG alpha": (rgba, {}),
        "GIF": (palette, {}),
        "GIF interlaced": (palette, {"interlace": 1}),
        "GIF animated": (image, frames),
        "BMP": (image, {}),
        "BMP gray": (gray, {}),
        "BMP palette": (palette, {}),
        "BMP alpha": (rgba, {}),
        "BMP 1 bit": (image.convert("1"), {}),
        "WEBP": (image, {}),
        "WEBP lossless": (image, {"lossless": True}),
        "WEBP alpha": (rgba, {}),
        "WEBP animated": (image, frames),
        "WEBP animated alpha": (rgba, {**frames, "append_images": [rgba.rotate(180)]}),
    }
    contents = {}
    for name, (picture, options) in files.items():
        stream = io.BytesIO()
        picture.save(stream, name.split()[0], **options)
        contents[name] = stream.getvalue()
    # What the frames are made of decides of the flag; the decoder looks at it alone.
    animated = contents["WEBP animated"]
    for name, flags in ("opaque", 0x02), ("with alpha", 0x12):
        contents[f"WEBP animated {name}"] = (
            animated[:20] + bytes([flags]) + animated[21:]
        )
    return contents


def mutated(files, number, seed=0):
    """A damaged file that is a function of the seed and its number.

    Args:
        files: from `image_files()`.
        number: 0 or more.
        seed: 0 or more.

    Returns:
        The format that it was made from, and its bytes.
    """
    rng = np.random.default_rng((seed, number))
    names = sorted(files)
    name = names[number % len(names)]
    content = bytearray(files[name])
    damage = rng.integers(6)
    if damage == 0:
        for at in rng.integers(0, len(content), rng.integers(1, 17)):
            content[at] ^= 1 << rng.integers(8)
    elif damage == 1:
        for at in rng.integers(0, min(80, len(content)), rng.integers(1, 5)):
            content[at] = rng.integers(256)
    elif damage == 2:
        content = content[: rng.integers(len(content))]
    elif damage == 3:
        other = files[names[rng.integers(len(names))]]
        content = content[: rng.integers(len(content))]
        content += other[rng.integers(len(other)) :]
    elif damage == 4:
        for _ in range(rng.integers(1, 4)):
            size = int(rng.choice((1, 2, 3, 4)))
            value = EXTREMES[rng.integers(len(EXTREMES))] % 256**size
            order = "little" if rng.integers(2) else "big"
            at = rng.integers(min(64, len(content) - size))
            content[at : at + size] = value.to_bytes(size, order)
    else:
        first, last = sorted(rng.integers(0, len(content), 2))
        content[first:first] = content[first:last]
    if content.startswith(b"\x89PNG") and rng.integers(2):
        _mend_checksums(content)
    return name.split()[0], bytes(content)


def _mend_checksums(content):
    """Makes the checksums of a PNG's chunks right, so that it is read further."""
    at = 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        end = at + 8 + size
        if end + 4 > len(content):
            return
        checksum = zlib.crc32(content[at + 4 : end])
        content[end : end + 4] = struct.pack(">I", checksum)
        at = end + 4
