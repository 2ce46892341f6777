"""The networks that `keras_dml.models.trunk` builds, one a file.

Each function takes an input shape and gives a model from RGB pixels, 0 to 255, to
features. Those whose weights were published for PyTorch have PyTorch's padding
(`torch_layers.py`) and layers called as PyTorch's modules are.
"""
