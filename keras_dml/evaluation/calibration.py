"""What was found when an index was tuned to a target."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How well an approximate index agrees with exact search, and what each costs.

    Args:
        k: neighbours that were searched for, at least 1.
        target: the `agreement` aimed at, above 0 and up to 1.
        agreement: the mean `agreement` on the sample, 0 … 1.
        reached: whether the sample shows that the target is reached, or the index
            compares every row.
        queries: how many the sample had, at least 1.
        seed: what drew the sample, at least 0.
        ms_per_query: milliseconds a search took for each query of the sample, where it
            was measured.
        exact_ms_per_query: the same for exact search.

    Raises:
        ValueError: if a value is of another type or out of its range.
    """

    k: int
    target: float
    agreement: float
    reached: bool
    queries: int
    seed: int
    ms_per_query: float
    exact_ms_per_query: float

    def __post_init__(self):
        """Checks what may come from a file."""
        for name, least in (("k", 1), ("queries", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"{name} must be an integer, at least {least}; got {value!r}."
                )
        most = {"target": 1, "agreement": 1}
        for name in ("target", "agreement", "ms_per_query", "exact_ms_per_query"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= most.get(name, math.inf):
                raise ValueError(
                    f"{name} must be a number, at least 0 and at most "
                    f"{most.get(name, 'finite')}; got {value!r}."
                )
        if not isinstance(self.reached, bool):
            raise ValueError(f"reached must be true or false; got {self.reached!r}.")
