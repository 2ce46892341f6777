"""Whether a copy of a data set is whole."""

import os


def check_counts(
    file: str | os.PathLike, found: dict[str, int], expected: dict[str, int], cause: str
) -> None:
    """Compares the counts of a data set with the official ones.

    Args:
        file: the metadata that the counts come from.
        found: by name, such as "train images".
        expected: the same names.
        cause: sentences on what is probably missing, for the error.

    Raises:
        ValueError: if a count differs; the message has each that does.
    """
    differing = [
        f"{name}: {found[name]:,} found, {count:,} expected"
        for name, count in expected.items()
        if found[name] != count
    ]
    if differing:
        raise ValueError(
            f"{str(file)!r} is not whole, or another data set's; "
            f"{'; '.join(differing)}. {cause}"
        )
