"""COCO's run-length encoding of masks, one for each class of a class map.

A mask is read column by column. The lengths of its runs, of 0 and of 1 in turn, are written in
digits of base 32, from the fourth on as the difference to the one before the last; 48 is added to
each digit, and 32 to all but a number's last.

Reference: rleToString in github.com/cocodataset/cocoapi, common/maskApi.c.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from convnext.images.class_maps import Numbers

__all__ = ["run_lengths"]


def run_lengths(numbers: Numbers) -> dict[int, str]:
    """Encode where each class is, as the `counts` of a COCO annotation.

    Args:
        numbers: `(height, width)`, the class of each pixel.

    Example:
        >>> run_lengths(np.array([[0, 1], [0, 1]], np.uint8))
        {0: '022', 1: '22'}
    """
    pixels = numbers.T.ravel()
    starts = np.flatnonzero(np.concatenate([[True], pixels[1:] != pixels[:-1]]))
    classes = pixels[starts]  # of each run
    encoded = {}
    for each in np.unique(classes):
        inside = classes == each
        changes = starts[np.flatnonzero(np.diff(inside, prepend=False))]
        counts = np.diff(np.concatenate([[0], changes, [pixels.size]]))
        encoded[int(each)] = _written(counts.tolist())
    return encoded


def _written(counts: Iterable[int]) -> str:
    text, earlier = [], [0, 0]
    for number, count in enumerate(counts):
        rest = count - earlier[-2] if number > 2 else count
        earlier.append(count)
        while True:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text.append(chr(48 + digit + 32 * more))
            if not more:
                break
    return "".join(text)
