"""PyTorch's checkpoints, read without PyTorch and without running anything in them.

`torch_checkpoint.py` tells the formats apart and returns the tensors of a file. It
reads safetensors itself; `torch_save_formats.py` reads the two formats of `torch.save`,
and `torch_pickle.py` the pickles within both. `torch_weights.py` assigns the tensors to
a Keras model, and `published_file.py` downloads a checkpoint and compares its SHA-256.
"""
