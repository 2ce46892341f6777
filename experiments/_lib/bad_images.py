"""What programs do about images that can't be decoded: --on_bad_image."""

import pathlib

from absl import flags

from keras_dml import data
from keras_dml._files import atomic_file

_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image",
    "error",
    ["error", "skip"],
    "What to do about an image that can't be read: end with its path, or go on without "
    "it and list it.",
)


def skips_bad_images() -> bool:
    """Whether --on_bad_image=skip was given."""
    return _ON_BAD_IMAGE.value == "skip"


def find_bad_images(
    *measured: data.ImageDataset | None, train: data.ImageDataset | None = None
) -> dict[str, str]:
    """Reads the images before hours are spent on them.

    Args:
        measured: data sets to embed; None is none.
        train: the one to train on, which is read beforehand only where bad images are
            to be skipped: training itself names the first.

    Returns:
        {path: reason} of those to skip.

    Raises:
        ValueError: if an image of `measured` can't be read and is not to be skipped.
    """
    datasets = [dataset for dataset in measured if dataset is not None]
    if not skips_bad_images():
        data.check_images(*datasets)
        return {}
    bad = data.find_bad_images(*filter(None, [train]), *datasets)
    if bad:
        print(f"{_number(bad)} can't be read:")
    for path, reason in bad.items():
        print(f"  {path}: {reason}")
    return bad


def list_bad_images(folder: pathlib.Path, bad: dict[str, str]) -> str:
    """Writes bad_images.txt in a folder: a path, a tab and the reason on each line.

    Without bad images the list of a run before is removed.

    Returns:
        The text to end the program with; empty without bad images.
    """
    file = folder / "bad_images.txt"
    if not bad:
        file.unlink(missing_ok=True)
        return ""
    with atomic_file(file) as unfinished:
        unfinished.write_text(
            "".join(f"{path}\t{reason}\n" for path, reason in bad.items())
        )
    return f"\n{_number(bad)} can't be read and took no part; {file} lists them.\n"


def _number(bad):
    return "1 image" if len(bad) == 1 else f"{len(bad):,} images"
