"""The networks that `keras_dml.models.trunk` builds, one a file.

Each function takes an input shape and returns a model from RGB pixels, 0 to 255, to
features. Those whose weights were published for PyTorch name their layers after
PyTorch's modules; `torch_layers.py` has the layers that Keras pads differently.
"""
