"""From paths to pixels.

`images.py` decodes, resizes and crops one image, the same way for training, evaluation
and serving, and reads many at a time on all cores, with an unreadable one named.
`batches.py` makes training batches of them from a plan of which images each holds, and
keeps resized images in memory or on disk.
"""
