"""Turns a published PyTorch checkpoint into a weights file of a trunk.

python -m experiments.convert_weights --trunk=resnet50 \
    --checkpoint=resnet50-0676ba61.pth --output=resnet50.weights.h5

The output is what `--config.weights=resnet50.weights.h5` takes. A checkpoint with
tensors missing, unknown or of another shape is refused, and so is one whose name
carries another SHA-256 than it has. PyTorch is not needed, and nothing in the file is
run. Prints the checkpoint's SHA-256 and the output's path.
"""

import pathlib

from absl import flags

from experiments._lib import program
from keras_dml import models
from keras_dml._files import atomic_file
from keras_dml.models._checkpoints.published_file import checkpoint_hash

_TRUNK = flags.DEFINE_string("trunk", None, "The trunk's name.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A .pth or .safetensors file.")
_OUTPUT = flags.DEFINE_string("output", None, "A name that ends in .weights.h5.")
flags.mark_flags_as_required(["trunk", "checkpoint", "output"])

_SUFFIX = ".weights.h5"
_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")


def main(argv):
    """Checkpoint → trunk → weights file."""
    del argv
    output = pathlib.Path(_OUTPUT.value)
    if not output.name.endswith(_SUFFIX):
        raise ValueError(f"--output must end in {_SUFFIX}; got {_OUTPUT.value!r}.")
    if output.exists():
        raise FileExistsError(f"--output {_OUTPUT.value!r} is there already.")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"--output: no folder {str(output.parent)!r}.")
    if not _CHECKPOINT.value.endswith(_CHECKPOINT_SUFFIXES):
        raise ValueError(
            f"--checkpoint must end in {', '.join(_CHECKPOINT_SUFFIXES)}; got "
            f"{_CHECKPOINT.value!r}."
        )
    digest = checkpoint_hash(_CHECKPOINT.value)
    model = models.trunk(_TRUNK.value, weights=_CHECKPOINT.value)
    with atomic_file(output) as unfinished:
        model.save_weights(str(unfinished))
    print(f"SHA-256 {digest}  {_CHECKPOINT.value}")
    print(output)


if __name__ == "__main__":
    program.run(main)
