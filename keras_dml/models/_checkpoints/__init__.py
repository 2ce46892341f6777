"""PyTorch's weights files, read without PyTorch and without running anything in them.

`torch_checkpoint.py` tells the formats apart and gives the tensors: `torch_zip.py` and
`torch_legacy.py` read what `torch.save` writes now and wrote before, and
`torch_pickle.py` the pickle within both. `torch_weights.py` assigns the tensors to a
Keras model, and `published_file.py` downloads a file and compares its hash.
"""
