"""Several figures in one cell of a table."""

import numpy as np
import numpy.typing as npt


def mean_and_spread(figures: npt.ArrayLike) -> str:
    """The mean ± the standard deviation, with one digit after the point.

    The deviation is that of the sample, so with n - 1; a single figure has none.
    """
    figures = np.asarray(figures)
    mean = f"{figures.mean():.1f}"
    return mean if len(figures) < 2 else f"{mean} ± {figures.std(ddof=1):.1f}"
