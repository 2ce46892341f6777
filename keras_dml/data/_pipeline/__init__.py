"""From image files to batches of pixels.

`images.py` decodes one image (`decode_image`: JPEG, PNG, BMP, GIF, WebP), resizes and
crops it, the same way for training, evaluation and serving, and reads many of them on
all cores, in order, with the path of an unreadable one in the error. `image_header.py`
refuses what must reach no decoder. `batches.py` makes training batches from a plan of
which images each holds: random crops and flips, and a cache of the resized images in
memory or on disk.
"""
