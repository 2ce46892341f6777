"""The parts of BENCHMARKS.md that a benchmark writes."""

import pathlib

BENCHMARKS = pathlib.Path(__file__).parents[2] / "BENCHMARKS.md"


def write_measured(name: str, text: str, file: pathlib.Path = BENCHMARKS) -> None:
    """Replaces what stands between the two marks of a part; all else is left alone.

    Args:
        name: of the part, as in its marks, `<!-- name begins -->` and
            `<!-- name ends -->`.
        text: the Markdown to put there.
        file: the file that holds the marks.

    Raises:
        ValueError: if the file has not both marks, in their order and once each.
    """
    begins, ends = (f"<!-- {name} {word} -->" for word in ("begins", "ends"))
    before, found_begin, rest = file.read_text(encoding="utf-8").partition(begins)
    old, found_end, after = rest.partition(ends)
    if not found_begin or not found_end or begins in old + after or ends in after:
        raise ValueError(
            f"{file} must hold {begins!r} and then {ends!r}, once each. Put the marks "
            "where the figures shall be."
        )
    whole = f"{before}{begins}\n\n{text.strip()}\n\n{ends}{after}"
    file.write_text(whole, encoding="utf-8")
