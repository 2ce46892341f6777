"""The annoy library, imported late and tried once before it is trusted."""

import functools
import math
import types

_ITEMS = 64
_DIM = 40
_NEIGHBOURS = 5


@functools.cache
def checked_annoy() -> types.ModuleType:
    """Imports annoy and checks, once a process, that its index finds neighbours.

    Annoy is compiled where it is installed, and some compilers silently build one that
    returns a single neighbour:
    https://github.com/spotify/annoy/issues/679, and 682 and 693 beside it.

    Returns:
        The module `annoy`.

    Raises:
        ImportError: if annoy is not installed.
        RuntimeError: if its index does not find the neighbours of a known point.
    """
    try:
        import annoy
    except ImportError as error:
        raise ImportError(
            "Approximate search needs annoy. Install it with "
            "`pip install annoy==1.17.3`, which compiles it: have a C++ compiler ready."
        ) from error

    # Points along a quarter circle, so the nearest to the first are the next ones.
    index = annoy.AnnoyIndex(_DIM, "angular")
    index.set_seed(1)
    for item in range(_ITEMS):
        index.add_item(item, _point_on_arc(item))
    index.build(4, n_jobs=1)
    found = index.get_nns_by_vector(_point_on_arc(0), _NEIGHBOURS, 100 * _ITEMS)
    expected = list(range(_NEIGHBOURS))
    if found != expected:
        raise RuntimeError(
            f"The installed annoy is broken: for a known index it found {found} where "
            f"{expected} is right. Rebuild it without its machine-specific flags: "
            '`ANNOY_COMPILER_ARGS="-O3,-std=c++14" pip install --force-reinstall '
            "--no-cache-dir --no-binary annoy annoy==1.17.3`, or with another compiler."
        )
    return annoy


def _point_on_arc(item):
    angle = item * math.pi / 2 / (_ITEMS - 1)
    half = _DIM // 2
    return [math.cos(angle)] * half + [math.sin(angle)] * half
