r"""Converts a published PyTorch checkpoint to a weights file of a trunk.

python -m experiments.convert_weights --trunk=resnet50 \
    --checkpoint=resnet50-0676ba61.pth --output=resnet50.weights.h5

Train from it with --config.weights=resnet50.weights.h5. A checkpoint with tensors that
are missing, unknown or of another shape is refused, and so is one whose SHA-256 is not
the one in its name. PyTorch is not needed, and no code in the file is run. Prints the
checkpoint's SHA-256 and the output's path.
"""

import pathlib

from absl import flags

from experiments._lib import program
from keras_dml import models
from keras_dml._files import atomic_file

_TRUNK = flags.DEFINE_string("trunk", None, "The name of the trunk, such as resnet50.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A .pth or .safetensors file.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "The file to write, whose name ends in .weights.h5."
)
flags.mark_flags_as_required(["trunk", "checkpoint", "output"])

_SUFFIX = ".weights.h5"
_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")


def main(argv: list[str]) -> None:
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
    digest = models.checkpoint_hash(_CHECKPOINT.value)
    model = models.trunk(_TRUNK.value, weights=_CHECKPOINT.value)
    with atomic_file(output) as unfinished:
        model.save_weights(str(unfinished))
    print(f"SHA-256 {digest}  {_CHECKPOINT.value}")
    print(output)


if __name__ == "__main__":
    program.run(main)
