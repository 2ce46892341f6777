"""How images that are exactly as near as one another are ranked."""

TIES = ("expected", "worst", "best")


def checked_ties(ties: str) -> str:
    """Returns `ties`, once known to be one of `TIES`.

    Raises:
        ValueError: if it is not.
    """
    if ties not in TIES:
        raise ValueError(
            f"ties must be one of {', '.join(map(repr, TIES))}; got {ties!r}."
        )
    return ties
