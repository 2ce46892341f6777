"""What a search of a gallery finds."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """The gallery's images nearest to each query, best first.

    Args:
        names: (queries, k) strings: the path of each image, or the id that it was added
            with. Where a gallery has fewer images, k is their number; where a filter or
            an approximate index finds fewer, the rest is "".
        classes: (queries, k) strings, the class of each, "" for none.
        scores: (queries, k) float32, the higher the nearer: the cosine of embeddings,
            from -1 to 1, or minus the Hamming distance of codes; -inf for no image.

    Example:
        >>> matches = Matches(
        ...     names=np.array([["a.jpg", "b.jpg"]]),
        ...     classes=np.array([["wren", "crow"]]),
        ...     scores=np.array([[0.9, 0.2]], np.float32),
        ... )
        >>> for name, class_name, score in zip(
        ...     matches.names[0], matches.classes[0], matches.scores[0]
        ... ):
        ...     print(f"{score:.1f} {class_name} {name}")
        0.9 wren a.jpg
        0.2 crow b.jpg
    """

    names: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
